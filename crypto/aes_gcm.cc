// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See aes_gcm.h.
#include "crypto/aes_gcm.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <string>

#include "crypto/crypto_error.h"

namespace nasbackup::crypto {

namespace {

/// The library counts in ints.
constexpr std::size_t kMostAtOnce = 1u << 30;

struct Free {
  void operator()(EVP_CIPHER_CTX* context) const noexcept { ::EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, Free>;

unsigned char* raw(std::byte* bytes) noexcept { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) noexcept { return reinterpret_cast<const unsigned char*>(bytes); }

void require(int result) {
  if (result != 1) throw CryptoError("aes-gcm: the library refuses");
}

Context begin(std::span<const std::byte> key, const GcmNonce& nonce, bool sealing) {
  if (key.size() != kGcmKeyBytes) throw CryptoError("aes-gcm: key of " + std::to_string(key.size()) + " bytes, must be 32");
  Context context(::EVP_CIPHER_CTX_new());
  if (!context) throw std::bad_alloc();
  require(::EVP_CipherInit_ex(context.get(), ::EVP_aes_256_gcm(), nullptr, raw(key.data()), raw(nonce.data()), sealing ? 1 : 0));
  return context;
}

void show(const Context& context, std::span<const std::byte> shown) {
  for (int done = 0; !shown.empty(); shown = shown.subspan(static_cast<std::size_t>(done)))
    require(::EVP_CipherUpdate(context.get(), nullptr, &done, raw(shown.data()),
                               static_cast<int>(std::min(shown.size(), kMostAtOnce))));
}

void transform(const Context& context, std::span<std::byte> message) {
  for (int done = 0; !message.empty(); message = message.subspan(static_cast<std::size_t>(done)))
    require(::EVP_CipherUpdate(context.get(), raw(message.data()), &done, raw(message.data()),
                               static_cast<int>(std::min(message.size(), kMostAtOnce))));
}

}  // namespace

GcmTag gcm_seal(std::span<const std::byte> key, const GcmNonce& nonce, std::span<const std::byte> shown,
                std::span<std::byte> message) {
  const Context context = begin(key, nonce, true);
  show(context, shown);
  transform(context, message);
  GcmTag tag;
  int none = 0;
  require(::EVP_CipherFinal_ex(context.get(), raw(tag.data()), &none));
  require(::EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kGcmTagBytes, tag.data()));
  return tag;
}

bool gcm_open(std::span<const std::byte> key, const GcmNonce& nonce, std::span<const std::byte> shown,
              std::span<std::byte> message, const GcmTag& tag) {
  const Context context = begin(key, nonce, false);
  show(context, shown);
  transform(context, message);
  GcmTag expected = tag;
  require(::EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kGcmTagBytes, expected.data()));
  int none = 0;
  if (::EVP_CipherFinal_ex(context.get(), raw(expected.data()), &none) == 1) return true;
  if (!message.empty()) OPENSSL_cleanse(message.data(), message.size());
  return false;
}

}  // namespace nasbackup::crypto
