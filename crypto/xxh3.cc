// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See xxh3.h.
#include "crypto/xxh3.h"

#include <xxhash.h>

#include <cstring>

namespace nasbackup::crypto {

std::array<std::byte, 16> xxh3_128(std::span<const std::byte> bytes) noexcept {
  XXH128_canonical_t canonical;
  ::XXH128_canonicalFromHash(&canonical, ::XXH3_128bits(bytes.data(), bytes.size()));
  std::array<std::byte, 16> digest;
  static_assert(sizeof canonical == digest.size());
  std::memcpy(digest.data(), canonical.digest, digest.size());
  return digest;
}

}  // namespace nasbackup::crypto
