// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where salts and keys come from. An interface, so that a test can give the bytes and judge what is made of them.
// system_random() may be used by several threads at once; whatever else implements it says so itself.
#pragma once

#include <cstddef>
#include <span>

namespace nasbackup::crypto {

class RandomSource {
 public:
  virtual ~RandomSource() = default;
  /// Fills all of it or throws CryptoError.
  virtual void fill(std::span<std::byte> bytes) = 0;
};

/// The generator for secrets of libcrypto, which the kernel seeds.
RandomSource& system_random() noexcept;

}  // namespace nasbackup::crypto
