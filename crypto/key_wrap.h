// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A key wrapped by another one: AES-256-GCM under a key that HKDF derives for this purpose alone, with a salt of its own. Who has
// the outer key gets the inner one back, or learns that something was changed (docs/formats/manifest.md, "The seal"). Pure but
// for the random source; safe everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "crypto/random_source.h"
#include "crypto/secret.h"

namespace nasbackup::crypto {

inline constexpr std::size_t kWrappedKeyBytes = 32;                             ///< of the inner key
inline constexpr std::size_t kWrappingBytes = 32 + 12 + kWrappedKeyBytes + 16;  ///< salt, nonce, ciphertext, tag
using Wrapping = std::array<std::byte, kWrappingBytes>;

/// `key` has kWrappedKeyBytes. Salt, then nonce are drawn from `random`.
Wrapping wrap_key(std::span<const std::byte> outer, std::string_view purpose, const Secret& key, RandomSource& random);

/// Nothing when the outer key or the purpose is another, or anything was changed.
std::optional<Secret> unwrap_key(std::span<const std::byte> outer, std::string_view purpose, const Wrapping& wrapping);

}  // namespace nasbackup::crypto
