// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which rate holds at which time of day: "08:00-18:00=50M,*=0". Ranges may go over midnight; "*" is the rest of the day; every
// minute has exactly one rate. Arithmetic only: the time of day is a parameter, whatever clock it comes from. Immutable; safe
// everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace nasbackup {

/// One line that says what is wrong with a schedule and what to write instead.
class ScheduleError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class RateSchedule {
 public:
  /// Rates as rate_from_text() takes them; spaces around the commas may be there. Throws ScheduleError.
  explicit RateSchedule(std::string_view text);

  /// Bytes per second, 0: no limit. `minute` of the day, 0 … 1439.
  std::uint64_t rate_at(unsigned minute) const noexcept;
  /// Minutes from the beginning of `minute` until another rate holds; 0: never.
  unsigned minutes_until_change(unsigned minute) const noexcept;
  /// Whether there is any limit at all.
  bool limits() const noexcept;

 private:
  /// Of each stretch, where it begins. In the order of the day, the first at 0, neighbours of different rates.
  struct Stretch {
    unsigned begin = 0;
    std::uint64_t rate = 0;
  };
  std::size_t place_of(unsigned minute) const noexcept;
  std::vector<Stretch> stretches_;
};

}  // namespace nasbackup
