// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See aes_xts.h.
#include "crypto/aes_xts.h"

#include <openssl/evp.h>

#include <array>
#include <cassert>
#include <string>

#include "crypto/crypto_error.h"

namespace nasbackup::crypto {

namespace {

const EVP_CIPHER* cipher_for(std::size_t key_bytes) {
  if (key_bytes == 32) return ::EVP_aes_128_xts();
  if (key_bytes == 64) return ::EVP_aes_256_xts();
  throw CryptoError("aes-xts: key of " + std::to_string(key_bytes) + " bytes, must be 32 or 64");
}

unsigned char* raw(std::byte* bytes) noexcept { return reinterpret_cast<unsigned char*>(bytes); }

std::array<unsigned char, 16> plain64(std::uint64_t sector) noexcept {
  std::array<unsigned char, 16> tweak{};
  for (unsigned i = 0; i < 8; ++i) tweak[i] = static_cast<unsigned char>(sector >> (8 * i));
  return tweak;
}

}  // namespace

void AesXts::Free::operator()(evp_cipher_ctx_st* context) const noexcept { ::EVP_CIPHER_CTX_free(context); }

AesXts::AesXts(std::span<const std::byte> key) : encryption_(prepare(key, true)), decryption_(prepare(key, false)) {}

AesXts::Context AesXts::prepare(std::span<const std::byte> key, bool encrypting) {
  const EVP_CIPHER* cipher = cipher_for(key.size());
  Context context(::EVP_CIPHER_CTX_new());
  if (!context) throw std::bad_alloc();
  const auto* bytes = reinterpret_cast<const unsigned char*>(key.data());
  if (::EVP_CipherInit_ex(context.get(), cipher, nullptr, bytes, nullptr, encrypting ? 1 : 0) != 1)
    throw CryptoError("aes-xts: the library refuses the key");
  return context;
}

void AesXts::run(const Context& prepared, std::uint64_t first_sector, std::span<std::byte> sectors) {
  assert(sectors.size() % kSectorBytes == 0);
  const Context context(::EVP_CIPHER_CTX_new());
  if (!context || ::EVP_CIPHER_CTX_copy(context.get(), prepared.get()) != 1) throw std::bad_alloc();
  for (std::size_t at = 0; at < sectors.size(); at += kSectorBytes) {
    const auto tweak = plain64(first_sector++);
    unsigned char* sector = raw(sectors.data() + at);
    int done = 0;
    if (::EVP_CipherInit_ex(context.get(), nullptr, nullptr, nullptr, tweak.data(), -1) != 1 ||
        ::EVP_CipherUpdate(context.get(), sector, &done, sector, kSectorBytes) != 1)
      throw CryptoError("aes-xts: the library refuses sector " + std::to_string(first_sector - 1));
  }
}

void AesXts::encrypt(std::uint64_t first_sector, std::span<std::byte> sectors) const { run(encryption_, first_sector, sectors); }

void AesXts::decrypt(std::uint64_t first_sector, std::span<std::byte> sectors) const { run(decryption_, first_sector, sectors); }

}  // namespace nasbackup::crypto
