// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See printable.h.
#include "tools/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>

namespace nasbackup::tools {

namespace {

bool is_continuation(unsigned char byte) noexcept { return (byte & 0xc0) == 0x80; }

/// Length of the UTF-8 sequence at the start of `text`; 0 when it is none.
std::size_t sequence_length(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t length = byte(0) < 0x80                      ? 1
                             : byte(0) >= 0xc2 && byte(0) < 0xe0 ? 2
                             : byte(0) >= 0xe0 && byte(0) < 0xf0 ? 3
                             : byte(0) >= 0xf0 && byte(0) < 0xf5 ? 4
                                                                 : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if (!is_continuation(byte(i))) return 0;
  if (length == 3 && ((byte(0) == 0xe0 && byte(1) < 0xa0) || (byte(0) == 0xed && byte(1) >= 0xa0))) return 0;
  if (length == 4 && ((byte(0) == 0xf0 && byte(1) < 0x90) || (byte(0) == 0xf4 && byte(1) >= 0x90))) return 0;
  return length;
}

/// What a terminal would obey, or show as something else than it is.
bool is_dangerous(std::string_view sequence) noexcept {
  const auto first = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return first < 0x20 || first == 0x7f;
  if (sequence.size() == 2) return first == 0xc2 && static_cast<unsigned char>(sequence[1]) < 0xa0;
  // Line and paragraph separators, and the controls of writing direction.
  const std::string_view marks[] = {"\u2028", "\u2029", "\u202a", "\u202b", "\u202c", "\u202d",
                                    "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"};
  for (const std::string_view mark : marks)
    if (sequence == mark) return true;
  return false;
}

}  // namespace

std::string printable(std::string_view text, std::string_view allowed) {
  std::string safe;
  while (!text.empty()) {
    const std::size_t length = std::max<std::size_t>(1, sequence_length(text));
    const std::string_view sequence = text.substr(0, length);
    const bool may_stay = sequence_length(text) != 0 && !is_dangerous(sequence);
    if (may_stay || allowed.find(sequence[0]) != std::string_view::npos)
      safe += sequence;
    else
      for (const char byte : sequence) safe += fmt::format("\\x{:02x}", static_cast<std::uint8_t>(byte));
    text.remove_prefix(length);
  }
  return safe;
}

std::size_t columns(std::string_view text) noexcept {
  std::size_t count = 0;
  for (const char byte : text) count += !is_continuation(static_cast<unsigned char>(byte));
  return count;
}

std::string human_size(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < std::size(kUnits)) bytes /= 1024, ++unit;
  const int digits = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", bytes, digits, kUnits[unit]);
}

std::string human_time(double seconds) {
  if (seconds < 59.5) return fmt::format("{:.{}f} s", seconds, seconds < 9.995 ? 2 : 0);
  const auto whole = static_cast<std::uint64_t>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace nasbackup::tools
