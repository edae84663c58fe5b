// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// AES-XTS (IEEE 1619) over sectors of 512 bytes with the tweak "plain64" (the sector's number, 64 bits, little-endian), as LUKS1
// and dm-crypt use it. The key is set up once; several threads may use one object at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

struct evp_cipher_ctx_st;

namespace nasbackup::crypto {

class AesXts {
 public:
  static constexpr std::size_t kSectorBytes = 512;

  /// 32 bytes: AES-128, 64 bytes: AES-256. Throws CryptoError for any other key, and for one whose halves are equal.
  explicit AesXts(std::span<const std::byte> key);

  /// In place; whole sectors, the first of which has the number `first_sector`.
  void encrypt(std::uint64_t first_sector, std::span<std::byte> sectors) const;
  void decrypt(std::uint64_t first_sector, std::span<std::byte> sectors) const;

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const noexcept;
  };
  using Context = std::unique_ptr<evp_cipher_ctx_st, Free>;

  static Context prepare(std::span<const std::byte> key, bool encrypting);
  static void run(const Context& prepared, std::uint64_t first_sector, std::span<std::byte> sectors);

  // Only ever copied from: libcrypto's contexts change while they work.
  Context encryption_;
  Context decryption_;
};

}  // namespace nasbackup::crypto
