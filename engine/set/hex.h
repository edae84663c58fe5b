// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Bytes as lower-case hexadecimal digits, and back. Pure functions; safe from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace nasbackup::set {

inline std::string to_hex(std::span<const std::byte> bytes) {
  std::string digits;
  for (const std::byte byte : bytes)
    for (const unsigned nibble : {std::to_integer<unsigned>(byte) >> 4, std::to_integer<unsigned>(byte) & 15})
      digits += "0123456789abcdef"[nibble];
  return digits;
}

constexpr int hex_digit(char c) noexcept { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/// Nothing unless it is exactly that many bytes, in lower case.
template <std::size_t N>
std::optional<std::array<std::byte, N>> from_hex(std::string_view digits) noexcept {
  if (digits.size() != 2 * N) return std::nullopt;
  std::array<std::byte, N> bytes;
  for (std::size_t i = 0; i < N; ++i) {
    const int high = hex_digit(digits[2 * i]), low = hex_digit(digits[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes[i] = static_cast<std::byte>(16 * high + low);
  }
  return bytes;
}

}  // namespace nasbackup::set
