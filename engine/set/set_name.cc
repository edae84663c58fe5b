// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Set name; see set_name.h.
#include "engine/set/set_name.h"

#include <fmt/format.h>

namespace nasbackup::set {

namespace {

/// `text` looks like `pattern`, in which 0 stands for a digit and everything else for itself.
bool looks_like(std::string_view text, std::string_view pattern) noexcept {
  if (text.size() != pattern.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (pattern[i] == '0' ? !digit : text[i] != pattern[i]) return false;
  }
  return true;
}

unsigned number(std::string_view digits) noexcept {
  unsigned value = 0;
  for (const char digit : digits) value = value * 10 + static_cast<unsigned>(digit - '0');
  return value;
}

/// Both spellings have their digits in the same places.
std::optional<SetName> parse_as(std::string_view text, std::string_view pattern) noexcept {
  using namespace std::chrono;
  if (!looks_like(text, pattern)) return std::nullopt;
  const year_month_day day{year(static_cast<int>(number(text.substr(0, 4)))), month(number(text.substr(5, 2))),
                           std::chrono::day(number(text.substr(8, 2)))};
  const unsigned hour = number(text.substr(11, 2));
  const unsigned minute = number(text.substr(14, 2));
  const unsigned second = number(text.substr(17, 2));
  if (!day.ok() || hour > 23 || minute > 59 || second > 59) return std::nullopt;
  return SetName(sys_seconds(sys_days(day)) + hours(hour) + minutes(minute) + seconds(second));
}

}  // namespace

std::optional<SetName> SetName::parse(std::string_view text) noexcept { return parse_as(text, "0000.00.00.00.00.00"); }

std::optional<SetName> SetName::parse_rfc3339(std::string_view text) noexcept { return parse_as(text, "0000-00-00T00:00:00Z"); }

std::string SetName::rfc3339() const {
  using namespace std::chrono;
  const auto midnight = floor<days>(time_);
  const year_month_day day(midnight);
  const hh_mm_ss clock(time_ - midnight);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", int(day.year()), unsigned(day.month()), unsigned(day.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::string SetName::text() const {
  std::string text = rfc3339();
  text.pop_back();
  for (char& c : text) {
    if (c < '0' || c > '9') c = '.';
  }
  return text;
}

}  // namespace nasbackup::set
