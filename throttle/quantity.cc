// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See quantity.h.
#include "throttle/quantity.h"

#include <charconv>

namespace nasbackup {

namespace {

constexpr std::uint64_t kMiB = 1u << 20;

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same(std::string_view text, std::string_view word) noexcept {
  if (text.size() != word.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (lower(text[i]) != word[i]) return false;
  return true;
}

/// Takes the digits off the front of `text`; nothing when there are none or too many.
std::optional<std::uint64_t> take_number(std::string_view& text) noexcept {
  std::uint64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(rest - text.data()));
  return value;
}

/// 1024 to the power that the unit names: "k", "kib", "m" …
std::optional<std::uint64_t> binary_factor(std::string_view unit) noexcept {
  constexpr std::string_view kLetters = "kmgtpe";
  if (unit.empty()) return 1;
  const std::size_t power = kLetters.find(lower(unit[0]));
  if (power == std::string_view::npos || (unit.size() > 1 && !same(unit.substr(1), "ib"))) return std::nullopt;
  return 1ull << (10 * (power + 1));
}

/// Bits per second as bytes: "kbit", "mbit", "gbit".
std::optional<std::uint64_t> bit_factor(std::string_view unit) noexcept {
  if (same(unit, "kbit")) return 1'000 / 8;
  if (same(unit, "mbit")) return 1'000'000 / 8;
  if (same(unit, "gbit")) return 1'000'000'000 / 8;
  return std::nullopt;
}

/// The engine counts in signed 64 bits in places: nothing above 2^63 - 1.
std::optional<std::uint64_t> product(std::optional<std::uint64_t> value, std::optional<std::uint64_t> factor) noexcept {
  std::uint64_t result = 0;
  if (!value || !factor || __builtin_mul_overflow(*value, *factor, &result) || result > INT64_MAX) return std::nullopt;
  return result;
}

}  // namespace

std::optional<std::uint64_t> size_from_text(std::string_view text) noexcept {
  const auto number = take_number(text);
  return product(number, binary_factor(text));
}

std::optional<std::uint64_t> rate_from_text(std::string_view text) noexcept {
  const auto number = take_number(text);
  if (text.size() >= 2 && same(text.substr(text.size() - 2), "/s")) text.remove_suffix(2);
  if (text.empty()) return product(number, kMiB);
  const auto bits = bit_factor(text);
  return product(number, bits ? bits : binary_factor(text));
}

}  // namespace nasbackup
