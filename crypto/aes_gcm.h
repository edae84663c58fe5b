// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// AES-256-GCM (NIST SP 800-38D) for messages that are in memory whole. A nonce must never come twice under one key: whoever seals
// draws it, or has a key for one message alone. Pure; safe everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace nasbackup::crypto {

inline constexpr std::size_t kGcmKeyBytes = 32;
inline constexpr std::size_t kGcmNonceBytes = 12;
inline constexpr std::size_t kGcmTagBytes = 16;
using GcmNonce = std::array<std::byte, kGcmNonceBytes>;
using GcmTag = std::array<std::byte, kGcmTagBytes>;

/// In place. `shown` is authenticated and not encrypted. Throws CryptoError, also for a key of another size.
GcmTag gcm_seal(std::span<const std::byte> key, const GcmNonce& nonce, std::span<const std::byte> shown,
                std::span<std::byte> message);

/// In place. False when anything is not what was sealed: `message` is all zero then. Throws CryptoError, as above.
[[nodiscard]] bool gcm_open(std::span<const std::byte> key, const GcmNonce& nonce, std::span<const std::byte> shown,
                            std::span<std::byte> message, const GcmTag& tag);

}  // namespace nasbackup::crypto
