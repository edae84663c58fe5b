// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See hmac.h.
#include "crypto/hmac.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <climits>

#include "crypto/crypto_error.h"

namespace nasbackup::crypto {

Hmac hmac_sha256(std::span<const std::byte> key, std::span<const std::byte> message) {
  if (key.size() > INT_MAX) throw CryptoError("hmac: key of " + std::to_string(key.size()) + " bytes");
  constexpr unsigned char kNone = 0;  // the library wants an address even for a key of no bytes
  const void* key_bytes = key.empty() ? static_cast<const void*>(&kNone) : key.data();
  Hmac result;
  unsigned length = 0;
  if (::HMAC(::EVP_sha256(), key_bytes, static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(message.data()),
             message.size(), reinterpret_cast<unsigned char*>(result.data()), &length) == nullptr ||
      length != result.size())
    throw CryptoError("hmac: the library refuses");
  return result;
}

}  // namespace nasbackup::crypto
