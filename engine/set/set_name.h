// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The name of a set's directory, `yyyy.MM.dd.HH.mm.ss` in UTC (cloudstack-contract.md, section 5): a second of time and
// its two spellings. A plain value, safe everywhere.
#pragma once

#include <chrono>
#include <compare>
#include <optional>
#include <string>
#include <string_view>

namespace nasbackup::set {

class SetName {
 public:
  explicit SetName(std::chrono::sys_seconds time) noexcept : time_(time) {}

  static SetName now() { return SetName(std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now())); }
  /// Exactly what text() writes, a day and a time that exist; nothing else.
  static std::optional<SetName> parse(std::string_view text) noexcept;
  /// Exactly what rfc3339() writes.
  static std::optional<SetName> parse_rfc3339(std::string_view text) noexcept;

  std::string text() const;     ///< "2026.03.09.07.05.01"
  std::string rfc3339() const;  ///< "2026-03-09T07:05:01Z"
  SetName next_second() const noexcept { return SetName(time_ + std::chrono::seconds(1)); }

  friend auto operator<=>(const SetName&, const SetName&) noexcept = default;

 private:
  std::chrono::sys_seconds time_;
};

}  // namespace nasbackup::set
