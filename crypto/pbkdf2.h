// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// PBKDF2 with HMAC (RFC 8018, section 5.2). Its output blocks do not depend on each other: whoever has threads derives each on
// one of its own. A count that a header names may take minutes: a stop is seen within milliseconds, and throws Stopped. Pure;
// safe everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>

#include "crypto/digest.h"
#include "crypto/secret.h"

namespace nasbackup::crypto {

/// How many output blocks a key of `bytes` has.
constexpr std::uint32_t pbkdf2_blocks(Hash hash, std::size_t bytes) noexcept {
  return static_cast<std::uint32_t>((bytes + digest_bytes(hash) - 1) / digest_bytes(hash));
}

/// Block `index`, counted from 0, of the key that is derived into `key`; touches no byte of another block.
void pbkdf2_block(Hash hash, std::span<const std::byte> passphrase, std::span<const std::byte> salt, std::uint32_t iterations,
                  std::uint32_t index, std::span<std::byte> key, std::stop_token stop = {});

/// The whole of it, one block after the other.
void pbkdf2(Hash hash, std::span<const std::byte> passphrase, std::span<const std::byte> salt, std::uint32_t iterations,
            std::span<std::byte> key, std::stop_token stop = {});

}  // namespace nasbackup::crypto
