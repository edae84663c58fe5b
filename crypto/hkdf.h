// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// HKDF with SHA-256 (RFC 5869): keys for one purpose each, the "info" of the specification, out of a key that is random already.
// Pure; safe everywhere.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "crypto/secret.h"

namespace nasbackup::crypto {

/// `size`: 1 to 255 * 32. Throws CryptoError for any other, or when the library refuses.
Secret hkdf_sha256(std::span<const std::byte> key, std::span<const std::byte> salt, std::string_view purpose, std::size_t size);

}  // namespace nasbackup::crypto
