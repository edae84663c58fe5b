// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rate_schedule.h.
#include "throttle/rate_schedule.h"

#include <algorithm>
#include <array>
#include <optional>

#include "throttle/quantity.h"

namespace nasbackup {

namespace {

constexpr unsigned kDay = 24 * 60;
constexpr std::size_t kLongestText = 4096;
constexpr const char* kExample = "write ranges such as 08:00-18:00=50M,*=0";

std::string_view trimmed(std::string_view text) noexcept {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::string clock_text(unsigned minute) {
  const auto two = [](unsigned number) {
    return std::string(1, static_cast<char>('0' + number / 10)) + std::to_string(number % 10);
  };
  return two(minute / 60) + ":" + two(minute % 60);
}

/// "08:00"; 24:00 is the end of the day.
std::optional<unsigned> minute_from_text(std::string_view text) noexcept {
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  for (const std::size_t place : {0u, 1u, 3u, 4u})
    if (text[place] < '0' || text[place] > '9') return std::nullopt;
  const auto digit = [&](std::size_t place) { return static_cast<unsigned>(text[place] - '0'); };
  const unsigned minutes = 10 * digit(3) + digit(4);
  const unsigned minute = 60 * (10 * digit(0) + digit(1)) + minutes;
  if (minutes > 59 || minute > kDay) return std::nullopt;
  return minute;
}

[[noreturn]] void refuse(std::string_view entry, const std::string& what) {
  throw ScheduleError(std::string(entry) + ": " + what);
}

/// The day while it is read, minute by minute: small, and overlaps and gaps show by themselves.
class Day {
 public:
  void add(std::string_view entry) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos) refuse(entry, kExample);
    const std::string_view when = trimmed(entry.substr(0, equals));
    const auto rate = rate_from_text(trimmed(entry.substr(equals + 1)));
    if (!rate) refuse(entry, "write a rate such as 50 (MiB/s), 50M, 1G, 400Mbit or 0");
    if (when == "*")
      set_rest(entry, *rate);
    else
      set_range(entry, when, *rate);
  }

  std::uint64_t rate_at(unsigned minute) const {
    if (rates_[minute]) return *rates_[minute];
    if (!rest_) throw ScheduleError(clock_text(minute) + " has no rate: add *=RATE for the rest of the day");
    return *rest_;
  }

 private:
  void set_rest(std::string_view entry, std::uint64_t rate) {
    if (rest_) refuse(entry, "* is given twice: write it once");
    rest_ = rate;
  }

  void set_range(std::string_view entry, std::string_view when, std::uint64_t rate) {
    const std::size_t dash = when.find('-');
    const auto begin = minute_from_text(trimmed(when.substr(0, dash)));
    const auto end = dash == std::string_view::npos ? std::nullopt : minute_from_text(trimmed(when.substr(dash + 1)));
    if (!begin || !end || *begin == kDay) refuse(entry, kExample);
    if (*begin == *end) refuse(entry, "begins when it ends: write *=RATE for the whole day");
    const unsigned length = (*end + kDay - *begin) % kDay;  // 0: 00:00-24:00
    for (unsigned i = 0; i < (length == 0 ? kDay : length); ++i) {
      const unsigned minute = (*begin + i) % kDay;
      if (rates_[minute]) refuse(entry, clock_text(minute) + " is in another range too: let them not overlap");
      rates_[minute] = rate;
    }
  }

  std::array<std::optional<std::uint64_t>, kDay> rates_{};
  std::optional<std::uint64_t> rest_;
};

}  // namespace

RateSchedule::RateSchedule(std::string_view text) {
  if (text.size() > kLongestText) throw ScheduleError("longer than 4096 letters: write a shorter one");
  Day day;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    const std::string_view entry = trimmed(text.substr(0, comma));
    if (entry.empty()) throw ScheduleError(std::string("an empty range: ") + kExample);
    day.add(entry);
    more = comma != std::string_view::npos;
    if (more) text.remove_prefix(comma + 1);
  }
  for (unsigned minute = 0; minute < kDay; ++minute) {
    const std::uint64_t rate = day.rate_at(minute);
    if (stretches_.empty() || stretches_.back().rate != rate) stretches_.push_back({minute, rate});
  }
}

std::size_t RateSchedule::place_of(unsigned minute) const noexcept {
  std::size_t place = stretches_.size() - 1;
  while (stretches_[place].begin > minute % kDay) --place;  // the first begins at 0
  return place;
}

std::uint64_t RateSchedule::rate_at(unsigned minute) const noexcept { return stretches_[place_of(minute)].rate; }

unsigned RateSchedule::minutes_until_change(unsigned minute) const noexcept {
  if (stretches_.size() == 1) return 0;
  const std::size_t next = place_of(minute) + 1;
  if (next < stretches_.size()) return stretches_[next].begin - minute;
  // Over midnight the same rate may go on.
  const bool goes_on = stretches_.front().rate == stretches_.back().rate;
  return kDay - minute + (goes_on ? stretches_[1].begin : 0);
}

bool RateSchedule::limits() const noexcept {
  return std::any_of(stretches_.begin(), stretches_.end(), [](const Stretch& stretch) { return stretch.rate != 0; });
}

}  // namespace nasbackup
