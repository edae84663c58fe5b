// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See random_source.h.
#include "crypto/random_source.h"

#include <openssl/rand.h>

#include <algorithm>

#include "crypto/crypto_error.h"

namespace nasbackup::crypto {

namespace {

constexpr std::size_t kMostAtOnce = 1u << 20;  // RAND_priv_bytes takes an int

class SystemRandom final : public RandomSource {
 public:
  void fill(std::span<std::byte> bytes) override {
    while (!bytes.empty()) {
      const std::size_t now = std::min(bytes.size(), kMostAtOnce);
      if (::RAND_priv_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(now)) != 1)
        throw CryptoError("random bytes: the system gives none");
      bytes = bytes.subspan(now);
    }
  }
};

}  // namespace

RandomSource& system_random() noexcept {
  static SystemRandom source;
  return source;
}

}  // namespace nasbackup::crypto
