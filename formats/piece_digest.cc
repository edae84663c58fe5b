// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See piece_digest.h.
#include "formats/piece_digest.h"

#include <cassert>

#include "crypto/hkdf.h"
#include "crypto/xxh3.h"
#include "formats/is_zero.h"

namespace nasbackup::digests {

crypto::Secret tag_key(std::span<const std::byte> volume_key, const Salt& salt) {
  return crypto::hkdf_sha256(volume_key, salt, "nasbackup digest file 1", crypto::Gmac::kKeyBytes);
}

std::vector<PieceDigest> PieceDigester::take(std::uint64_t first, std::span<const std::byte> pieces) const {
  assert(pieces.size() % piece_size_ == 0);
  std::vector<PieceDigest> digests(pieces.size() / piece_size_);
  std::optional<crypto::Gmac::Tagger> tagger;
  if (gmac_) tagger = gmac_->tagger();
  for (std::size_t i = 0; i < digests.size(); ++i) {
    const auto piece = pieces.subspan(i * piece_size_, piece_size_);
    if (is_zero(piece)) continue;
    digests[i] = {PieceKind::data, tagger ? tagger->tag(first + i, piece) : crypto::xxh3_128(piece)};
  }
  return digests;
}

bool PieceDigester::matches(std::uint64_t number, std::span<const std::byte> piece, const PieceDigest& expected) const {
  const PieceDigest found = take(number, piece).front();
  return found.kind == expected.kind && crypto::same_bytes(found.tag, expected.tag);
}

}  // namespace nasbackup::digests
