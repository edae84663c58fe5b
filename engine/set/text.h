// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What may stand in a name or a manifest: UTF-8 without control characters. Pure functions; safe from any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nasbackup::set {

/// Length of the well-formed UTF-8 sequence at the beginning (RFC 3629: no surrogates, nothing overlong), or 0.
constexpr std::size_t utf8_sequence(std::string_view text) noexcept {
  if (text.empty()) return 0;
  const auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xe0 && at(1) < 0xa0) || (first == 0xf0 && at(1) < 0x90);
  const bool outside = (first == 0xed && at(1) > 0x9f) || (first == 0xf4 && at(1) > 0x8f);
  return overlong || outside ? 0 : length;
}

/// The same, but 0 for control characters too: C0, DEL, and C1 (U+0080 to U+009F), in which some terminals see orders.
constexpr std::size_t plain_sequence(std::string_view text) noexcept {
  const std::size_t length = utf8_sequence(text);
  if (length == 0) return 0;
  const auto first = static_cast<unsigned char>(text.front());
  const bool c1 = first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0;
  return first < 0x20 || first == 0x7f || c1 ? 0 : length;
}

/// UTF-8 without control characters: safe to show on a terminal and to write into JSON.
constexpr bool is_plain_text(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t length = plain_sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

/// The same text with '?' for each byte that is not plain, cut (between characters) to at most `limit` bytes.
inline std::string plain_text(std::string_view text, std::size_t limit) {
  std::string plain;
  while (!text.empty()) {
    const std::size_t length = plain_sequence(text);
    const auto piece = length != 0 ? text.substr(0, length) : std::string_view("?");
    if (plain.size() + piece.size() > limit) break;
    plain += piece;
    text.remove_prefix(length != 0 ? length : 1);
  }
  return plain;
}

}  // namespace nasbackup::set
