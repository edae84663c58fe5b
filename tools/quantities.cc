// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See quantities.h. Sizes are powers of 1024 whether one writes K or KiB; KB is refused, because people mean both by it.
#include "tools/quantities.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "tools/command_line.h"
#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

constexpr std::optional<std::uint64_t> kMiB = 1u << 20;

struct Number {
  std::uint64_t value = 0;
  std::string unit;  ///< what follows, in lower case
};

/// Digits and what follows them; nothing for junk and for what does not fit.
std::optional<Number> split(const std::string& text) {
  Number number;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number.value);
  if (error != std::errc{}) return std::nullopt;
  number.unit.assign(rest, end);
  std::transform(number.unit.begin(), number.unit.end(), number.unit.begin(), [](unsigned char c) { return std::tolower(c); });
  return number;
}

/// 1024 to the power that the unit names: "k", "kib", "m" …
std::optional<std::uint64_t> binary_factor(const std::string& unit) {
  constexpr std::string_view kLetters = "kmgtpe";
  if (unit.empty()) return 1;
  const std::size_t power = kLetters.find(unit[0]);
  if (power == std::string_view::npos || (unit.size() > 1 && unit.substr(1) != "ib")) return std::nullopt;
  return 1ull << (10 * (power + 1));
}

/// Bits per second as bytes: "kbit", "mbit", "gbit".
std::optional<std::uint64_t> bit_factor(const std::string& unit) {
  if (unit == "kbit") return 1'000 / 8;
  if (unit == "mbit") return 1'000'000 / 8;
  if (unit == "gbit") return 1'000'000'000 / 8;
  return std::nullopt;
}

/// The engine counts in signed 64 bits in places: nothing above 2^63 - 1.
std::optional<std::uint64_t> product(std::uint64_t value, std::optional<std::uint64_t> factor) {
  std::uint64_t result = 0;
  if (!factor || __builtin_mul_overflow(value, *factor, &result) || result > INT64_MAX) return std::nullopt;
  return result;
}

[[noreturn]] void refuse(const std::string& what, const std::string& text, const std::string& instead) {
  throw UsageError(what + " " + printable(text) + ": write " + instead);
}

}  // namespace

std::uint64_t parse_size(const std::string& what, const std::string& text) {
  const std::optional<Number> number = split(text);
  const auto size = number ? product(number->value, binary_factor(number->unit)) : std::nullopt;
  if (!size) refuse(what, text, "a size such as 65536, 64K, 50MiB or 1G");
  return *size;
}

std::uint64_t parse_rate(const std::string& what, const std::string& text) {
  std::optional<Number> number = split(text);
  std::optional<std::uint64_t> rate;
  if (number) {
    if (number->unit.ends_with("/s")) number->unit.resize(number->unit.size() - 2);
    const auto bits = bit_factor(number->unit);
    rate = product(number->value, bits ? bits : number->unit.empty() ? kMiB : binary_factor(number->unit));
  }
  if (!rate) refuse(what, text, "a rate such as 50 (MiB/s), 50M, 1G, 400Mbit or 0");
  return *rate;
}

unsigned parse_count(const std::string& what, const std::string& text, unsigned most) {
  const std::optional<Number> number = split(text);
  if (!number || !number->unit.empty() || number->value == 0 || number->value > most)
    refuse(what, text, "a whole number from 1 to " + std::to_string(most));
  return static_cast<unsigned>(number->value);
}

std::chrono::seconds parse_seconds(const std::string& what, const std::string& text) {
  constexpr std::uint64_t kLongest = 10ull * 366 * 86400;  // ten years: times in nanoseconds still fit
  const std::optional<Number> number = split(text);
  if (!number || !number->unit.empty() || number->value == 0 || number->value > kLongest)
    refuse(what, text, "whole seconds, such as 60");
  return std::chrono::seconds(number->value);
}

}  // namespace nasbackup::tools
