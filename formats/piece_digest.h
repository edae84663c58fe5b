// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The digest of each piece of a disk (docs/formats/digests.md): pieces are of a fixed size, counted from the disk's beginning;
// what the last one has behind the disk's end counts as zero. A piece of zeroes has no tag. Several threads may use one digester
// at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "crypto/gmac.h"
#include "crypto/secret.h"
#include "formats/digest_format.h"

namespace nasbackup::digests {

struct PieceDigest {
  PieceKind kind = PieceKind::zero;
  Tag tag{};  ///< of PieceKind::data; else zero

  friend bool operator==(const PieceDigest&, const PieceDigest&) = default;
};

/// The size of a disk's pieces, from that of the clusters in which it is stored.
constexpr std::uint64_t piece_size_for(std::uint64_t cluster_size) noexcept {
  return cluster_size > kLeastPiece ? cluster_size : kLeastPiece;
}

/// The key of the tags of an image, from its volume key (HKDF, with the salt in the digest file).
crypto::Secret tag_key(std::span<const std::byte> volume_key, const Salt& salt);

class PieceDigester {
 public:
  /// XXH3: finds damage.
  explicit PieceDigester(std::uint64_t piece_size) : piece_size_(piece_size) {}
  /// GMAC: finds forgery too. `key`: tag_key().
  PieceDigester(std::uint64_t piece_size, const crypto::Secret& key) : piece_size_(piece_size), gmac_(key.bytes()) {}

  Kind kind() const noexcept { return gmac_ ? Kind::gmac_aes_256 : Kind::xxh3_128; }
  std::uint64_t piece_size() const noexcept { return piece_size_; }

  /// Of whole pieces, the first of which has the number `first`.
  std::vector<PieceDigest> take(std::uint64_t first, std::span<const std::byte> pieces) const;
  /// Is the piece what the digest says? With a key in the same time for every difference: the tag that was computed must not
  /// become known (two tags of one number give the key away).
  bool matches(std::uint64_t number, std::span<const std::byte> piece, const PieceDigest& expected) const;

 private:
  std::uint64_t piece_size_;
  std::optional<crypto::Gmac> gmac_;
};

}  // namespace nasbackup::digests
