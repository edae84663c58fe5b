// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See quantities.h.
#include "tools/quantities.h"

#include <charconv>
#include <optional>

#include "engine/nasbackup.h"
#include "tools/command_line.h"
#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

/// A whole number and nothing else; nothing for junk and for what does not fit.
std::optional<std::uint64_t> number_of(const std::string& text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end) return std::nullopt;
  return value;
}

[[noreturn]] void refuse(const std::string& what, const std::string& text, const std::string& instead) {
  throw UsageError(what + " " + printable(text) + ": write " + instead);
}

/// What the library says, with the option's name in front.
template <class Parse>
auto translated(const std::string& what, Parse parse) {
  try {
    return parse();
  } catch (const Error& error) {
    throw UsageError(what + " " + printable(error.what()));
  }
}

}  // namespace

std::uint64_t parse_size(const std::string& what, const std::string& text) {
  return translated(what, [&] { return nasbackup::parse_size(text); });
}

std::uint64_t parse_rate(const std::string& what, const std::string& text) {
  return translated(what, [&] { return nasbackup::parse_rate(text); });
}

std::string parse_rate_schedule(const std::string& what, const std::string& text) {
  translated(what, [&] { check_rate_schedule(text); });
  return text;
}

unsigned parse_count(const std::string& what, const std::string& text, unsigned most) {
  const auto number = number_of(text);
  if (!number || *number == 0 || *number > most) refuse(what, text, "a whole number from 1 to " + std::to_string(most));
  return static_cast<unsigned>(*number);
}

double parse_percent(const std::string& what, const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  const bool reads = error == std::errc{} && rest + 1 == end && *rest == '%';
  if (!reads || !(value > 0 && value <= 100)) refuse(what, text, "a part such as 5% or 0.5%, at most 100%");
  return value / 100;
}

std::chrono::seconds parse_seconds(const std::string& what, const std::string& text) {
  constexpr std::uint64_t kLongest = 10ull * 366 * 86400;  // ten years: times in nanoseconds still fit
  const auto number = number_of(text);
  if (!number || *number == 0 || *number > kLongest) refuse(what, text, "whole seconds, such as 60");
  return std::chrono::seconds(*number);
}

}  // namespace nasbackup::tools
