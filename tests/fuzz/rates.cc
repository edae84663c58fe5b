// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: sizes, rates and rate schedules as people write them. Promised: numbers are below 2^63, every minute has a rate,
// and the time until the next one is right.
#include <string_view>

#include "tests/fuzz/fuzz_target.h"
#include "throttle/quantity.h"
#include "throttle/rate_schedule.h"

namespace nasbackup {
namespace {

using fuzz::require;

constexpr unsigned kDay = 24 * 60;
constexpr std::uint64_t kMost = ~std::uint64_t{0} >> 1;

void require_day(const RateSchedule& schedule) {
  bool any = false;
  for (unsigned minute = 0; minute < kDay; ++minute) {
    const std::uint64_t rate = schedule.rate_at(minute);
    const unsigned until = schedule.minutes_until_change(minute);
    require(rate <= kMost && until < kDay, "rate and time are bounded");
    if (until != 0) require(schedule.rate_at((minute + until) % kDay) != rate, "then another rate holds");
    if (until > 1) require(schedule.rate_at((minute + until - 1) % kDay) == rate, "until then this one does");
    any |= rate != 0;
  }
  require(schedule.limits() == any, "it is known whether there is a limit");
}

void run(std::string_view text) {
  if (const auto size = size_from_text(text)) require(*size <= kMost, "a size is bounded");
  if (const auto rate = rate_from_text(text)) require(*rate <= kMost, "a rate is bounded");
  if (const auto schedule = fuzz::accepted<ScheduleError>([&] { return RateSchedule(text); })) require_day(*schedule);
}

}  // namespace
}  // namespace nasbackup

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
