// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See key_wrap.h.
#include "crypto/key_wrap.h"

#include <algorithm>
#include <cassert>

#include "crypto/aes_gcm.h"
#include "crypto/hkdf.h"

namespace nasbackup::crypto {

namespace {

constexpr std::size_t kSaltBytes = 32;
constexpr std::size_t kKeyAt = kSaltBytes + kGcmNonceBytes, kTagAt = kKeyAt + kWrappedKeyBytes;
static_assert(kTagAt + kGcmTagBytes == kWrappingBytes);

Secret wrapping_key(std::span<const std::byte> outer, std::string_view purpose, const Wrapping& wrapping) {
  return hkdf_sha256(outer, std::span(wrapping).first(kSaltBytes), purpose, kGcmKeyBytes);
}

template <class Array>
Array part_of(const Wrapping& wrapping, std::size_t at) noexcept {
  Array part;
  std::copy_n(wrapping.begin() + static_cast<std::ptrdiff_t>(at), part.size(), part.begin());
  return part;
}

}  // namespace

Wrapping wrap_key(std::span<const std::byte> outer, std::string_view purpose, const Secret& key, RandomSource& random) {
  assert(key.size() == kWrappedKeyBytes);
  Wrapping wrapping{};
  random.fill(std::span(wrapping).first(kKeyAt));
  Secret message = Secret::copy_of(key.bytes());
  const Secret with = wrapping_key(outer, purpose, wrapping);
  const GcmTag tag = gcm_seal(with.bytes(), part_of<GcmNonce>(wrapping, kSaltBytes), {}, message.bytes());
  std::copy(message.bytes().begin(), message.bytes().end(), wrapping.begin() + kKeyAt);
  std::copy(tag.begin(), tag.end(), wrapping.begin() + kTagAt);
  return wrapping;
}

std::optional<Secret> unwrap_key(std::span<const std::byte> outer, std::string_view purpose, const Wrapping& wrapping) {
  Secret key = Secret::copy_of(std::span(wrapping).subspan(kKeyAt, kWrappedKeyBytes));
  const Secret with = wrapping_key(outer, purpose, wrapping);
  if (!gcm_open(with.bytes(), part_of<GcmNonce>(wrapping, kSaltBytes), {}, key.bytes(), part_of<GcmTag>(wrapping, kTagAt)))
    return std::nullopt;
  return key;
}

}  // namespace nasbackup::crypto
