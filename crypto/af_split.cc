// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See af_split.h.
#include "crypto/af_split.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <cstring>

#include "crypto/secret.h"

namespace nasbackup::crypto {

namespace {

void xor_into(std::span<std::byte> to, std::span<const std::byte> from) noexcept {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] ^= from[i];
}

/// H1 of the specification: every piece of a digest's size is replaced by the hash of its number and itself.
void diffuse(Digest& digest, std::size_t digest_size, std::span<std::byte> block, std::span<std::byte> scratch) {
  for (std::uint32_t number = 0; !block.empty(); ++number) {
    const auto piece = block.first(std::min(digest_size, block.size()));
    const std::array<std::byte, 4> prefix{std::byte(number >> 24), std::byte(number >> 16), std::byte(number >> 8),
                                          std::byte(number)};
    digest.update(prefix);
    digest.update(piece);
    digest.finish(scratch);
    std::memcpy(piece.data(), scratch.data(), piece.size());
    block = block.subspan(piece.size());
  }
}

/// What the last stripe is the key's difference to.
void fold(Hash hash, std::span<const std::byte> material, std::span<std::byte> folded) {
  assert(!folded.empty() && material.size() % folded.size() == 0 && !material.empty());
  Digest digest(hash);
  Secret scratch(digest_bytes(hash));
  std::fill(folded.begin(), folded.end(), std::byte{0});
  for (std::size_t at = 0; at + folded.size() < material.size(); at += folded.size()) {
    xor_into(folded, material.subspan(at, folded.size()));
    diffuse(digest, scratch.size(), folded, scratch.bytes());
  }
}

}  // namespace

void af_complete(Hash hash, std::span<const std::byte> key, std::span<std::byte> material) {
  const auto last = material.last(key.size());
  fold(hash, material, last);
  xor_into(last, key);
}

void af_merge(Hash hash, std::span<const std::byte> material, std::span<std::byte> key) {
  fold(hash, material, key);
  xor_into(key, material.last(key.size()));
}

}  // namespace nasbackup::crypto
