// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See hkdf.h.
#include "crypto/hkdf.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <memory>
#include <string>

#include "crypto/crypto_error.h"

namespace nasbackup::crypto {

namespace {

struct Free {
  void operator()(EVP_KDF* kdf) const noexcept { ::EVP_KDF_free(kdf); }
  void operator()(EVP_KDF_CTX* context) const noexcept { ::EVP_KDF_CTX_free(context); }
};

/// The library only reads what such a parameter points at.
OSSL_PARAM octets(const char* name, std::span<const std::byte> bytes) noexcept {
  static std::byte none{};
  void* data = bytes.empty() ? &none : const_cast<std::byte*>(bytes.data());
  return ::OSSL_PARAM_construct_octet_string(name, data, bytes.size());
}

}  // namespace

Secret hkdf_sha256(std::span<const std::byte> key, std::span<const std::byte> salt, std::string_view purpose, std::size_t size) {
  if (size == 0 || size > 255 * 32) throw CryptoError("hkdf: a key of " + std::to_string(size) + " bytes");
  const std::unique_ptr<EVP_KDF, Free> kdf(::EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  const std::unique_ptr<EVP_KDF_CTX, Free> context(kdf ? ::EVP_KDF_CTX_new(kdf.get()) : nullptr);
  if (!context) throw CryptoError("hkdf: the library does not have it");
  char hash[] = "SHA256";
  const OSSL_PARAM params[] = {::OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, hash, 0),
                               octets(OSSL_KDF_PARAM_KEY, key), octets(OSSL_KDF_PARAM_SALT, salt),
                               octets(OSSL_KDF_PARAM_INFO, std::as_bytes(std::span(purpose))), ::OSSL_PARAM_construct_end()};
  Secret derived(size);
  if (::EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(derived.bytes().data()), size, params) != 1)
    throw CryptoError("hkdf: the library refuses");
  return derived;
}

}  // namespace nasbackup::crypto
