// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// XXH3, 128 bits, without a seed, in its canonical form (big-endian): finds damage at the speed of memory, and keeps nobody from
// forging. Pure; safe everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace nasbackup::crypto {

std::array<std::byte, 16> xxh3_128(std::span<const std::byte> bytes) noexcept;

}  // namespace nasbackup::crypto
