// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The anti-forensic splitter of LUKS1 (specification, section "Anti-forensic splitter"; TKS1): a key becomes many times its size,
// and is lost when any part of that is. Pure; safe everywhere.
#pragma once

#include <cstddef>
#include <span>

#include "crypto/digest.h"

namespace nasbackup::crypto {

/// `material` is a whole number of stripes, each as long as `key`. All but the last hold random bytes; the last is computed.
void af_complete(Hash hash, std::span<const std::byte> key, std::span<std::byte> material);

/// The key again. `key` says how long a stripe is.
void af_merge(Hash hash, std::span<const std::byte> material, std::span<std::byte> key);

}  // namespace nasbackup::crypto
