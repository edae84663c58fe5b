// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// HMAC with SHA-256 (RFC 2104, FIPS 198-1). Pure; safe everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace nasbackup::crypto {

inline constexpr std::size_t kHmacBytes = 32;
using Hmac = std::array<std::byte, kHmacBytes>;

/// Throws CryptoError when the library refuses. Whoever compares two of them uses same_bytes().
Hmac hmac_sha256(std::span<const std::byte> key, std::span<const std::byte> message);

}  // namespace nasbackup::crypto
