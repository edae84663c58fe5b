// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// GMAC (NIST SP 800-38D): AES-256-GCM without a plaintext, a tag of 16 bytes for each numbered piece. The nonce is 4 zero bytes
// and the piece's number, 64 bits, big-endian: under one key a number has one published tag, or the key can be computed from two
// of them. The key is set up once; several threads may use one object at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

struct evp_cipher_ctx_st;

namespace nasbackup::crypto {

class Gmac {
 public:
  static constexpr std::size_t kKeyBytes = 32;
  using Tag = std::array<std::byte, 16>;

  /// Throws CryptoError for a key that has not 32 bytes.
  explicit Gmac(std::span<const std::byte> key);

  /// What one thread tags with, many pieces one after the other; not longer than the Gmac lives.
  class Tagger {
   public:
    Tag tag(std::uint64_t number, std::span<const std::byte> piece);

   private:
    friend class Gmac;
    struct Free {
      void operator()(evp_cipher_ctx_st* context) const noexcept;
    };
    std::unique_ptr<evp_cipher_ctx_st, Free> context_;
  };
  /// Costs about a microsecond.
  Tagger tagger() const;

 private:
  Tagger prepared_;  // only ever copied from: libcrypto's contexts change while they work
};

}  // namespace nasbackup::crypto
