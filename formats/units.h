// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Offsets that cannot be mixed up: a place on the virtual disk and a place in the image file are different types.
// Plain values, safe everywhere.
#pragma once

#include <compare>
#include <cstdint>

namespace nasbackup {

/// A byte offset in one address space; `Space` only tells the spaces apart.
template <class Space>
struct Offset {
  std::uint64_t value = 0;

  constexpr Offset() noexcept = default;
  constexpr explicit Offset(std::uint64_t bytes) noexcept : value(bytes) {}
  friend constexpr auto operator<=>(Offset, Offset) noexcept = default;
  friend constexpr Offset operator+(Offset o, std::uint64_t bytes) noexcept { return Offset(o.value + bytes); }
  friend constexpr std::uint64_t operator-(Offset a, Offset b) noexcept { return a.value - b.value; }
  constexpr Offset& operator+=(std::uint64_t bytes) noexcept {
    value += bytes;
    return *this;
  }
};

using GuestOffset = Offset<struct GuestSpace>;  ///< on the virtual disk
using HostOffset = Offset<struct HostSpace>;    ///< in the image file

/// A run of guest bytes.
struct GuestRange {
  GuestOffset start;
  std::uint64_t length = 0;

  constexpr GuestOffset end() const noexcept { return start + length; }
  friend constexpr bool operator==(const GuestRange&, const GuestRange&) noexcept = default;
};

constexpr std::uint64_t round_down(std::uint64_t n, std::uint64_t unit) noexcept { return n - n % unit; }
constexpr std::uint64_t div_round_up(std::uint64_t n, std::uint64_t unit) noexcept { return n / unit + (n % unit != 0); }
constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t unit) noexcept { return div_round_up(n, unit) * unit; }

}  // namespace nasbackup
