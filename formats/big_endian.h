// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Big-endian integers as they lie on disk: the conversion is in the type, so that no use site can forget it. Plain values.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>

namespace nasbackup {

template <std::unsigned_integral T>
class BigEndian {
 public:
  constexpr BigEndian() noexcept = default;
  constexpr BigEndian(T value) noexcept : raw_(swapped(value)) {}  // NOLINT: assignment from the native value is the point
  constexpr operator T() const noexcept { return swapped(raw_); }  // NOLINT

 private:
  static constexpr T swapped(T value) noexcept {
    if constexpr (std::endian::native == std::endian::big || sizeof(T) == 1) return value;
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  }
  T raw_ = 0;
};

using Be16 = BigEndian<std::uint16_t>;
using Be32 = BigEndian<std::uint32_t>;
using Be64 = BigEndian<std::uint64_t>;
static_assert(sizeof(Be16) == 2 && sizeof(Be32) == 4 && sizeof(Be64) == 8);

}  // namespace nasbackup
