// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See gmac.h.
#include "crypto/gmac.h"

#include <openssl/evp.h>

#include <climits>
#include <new>
#include <string>

#include "crypto/crypto_error.h"

namespace nasbackup::crypto {

namespace {

std::array<unsigned char, 12> nonce_of(std::uint64_t number) noexcept {
  std::array<unsigned char, 12> nonce{};
  for (unsigned i = 0; i < 8; ++i) nonce[11 - i] = static_cast<unsigned char>(number >> (8 * i));
  return nonce;
}

}  // namespace

void Gmac::Tagger::Free::operator()(evp_cipher_ctx_st* context) const noexcept { ::EVP_CIPHER_CTX_free(context); }

Gmac::Gmac(std::span<const std::byte> key) {
  if (key.size() != kKeyBytes) throw CryptoError("gmac: key of " + std::to_string(key.size()) + " bytes, must be 32");
  prepared_.context_.reset(::EVP_CIPHER_CTX_new());
  if (!prepared_.context_) throw std::bad_alloc();
  const auto* bytes = reinterpret_cast<const unsigned char*>(key.data());
  if (::EVP_EncryptInit_ex(prepared_.context_.get(), ::EVP_aes_256_gcm(), nullptr, bytes, nullptr) != 1)
    throw CryptoError("gmac: the library refuses the key");
}

Gmac::Tagger Gmac::tagger() const {
  Tagger copy;
  copy.context_.reset(::EVP_CIPHER_CTX_new());
  if (!copy.context_ || ::EVP_CIPHER_CTX_copy(copy.context_.get(), prepared_.context_.get()) != 1) throw std::bad_alloc();
  return copy;
}

Gmac::Tag Gmac::Tagger::tag(std::uint64_t number, std::span<const std::byte> piece) {
  if (piece.size() > INT_MAX) throw CryptoError("gmac: piece of " + std::to_string(piece.size()) + " bytes");
  const auto nonce = nonce_of(number);
  const auto* bytes = reinterpret_cast<const unsigned char*>(piece.data());
  Tag tag;
  int done = 0;
  EVP_CIPHER_CTX* context = context_.get();
  // The key stays: only the nonce is new.
  const bool good = ::EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
                    (piece.empty() || ::EVP_EncryptUpdate(context, nullptr, &done, bytes, static_cast<int>(piece.size())) == 1) &&
                    ::EVP_EncryptFinal_ex(context, reinterpret_cast<unsigned char*>(tag.data()), &done) == 1 &&
                    ::EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, static_cast<int>(tag.size()), tag.data()) == 1;
  if (!good) throw CryptoError("gmac: the library refuses piece " + std::to_string(number));
  return tag;
}

}  // namespace nasbackup::crypto
