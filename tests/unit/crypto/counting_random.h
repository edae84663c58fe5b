// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A random source that counts: the same bytes in every run. For tests only. One object, one thread.
#pragma once

#include <cstdint>

#include "crypto/random_source.h"

namespace nasbackup {

class CountingRandom final : public crypto::RandomSource {
 public:
  explicit CountingRandom(std::uint64_t seed = 1) : state_(seed) {}
  void fill(std::span<std::byte> bytes) override {
    for (std::byte& byte : bytes) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      byte = static_cast<std::byte>(state_ >> 56);
    }
  }

 private:
  std::uint64_t state_;
};

}  // namespace nasbackup
