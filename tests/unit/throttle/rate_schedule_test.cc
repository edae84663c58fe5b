// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which rate holds when; the time of day is a parameter.
#include "throttle/rate_schedule.h"

#include <gtest/gtest.h>

namespace nasbackup {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;
constexpr unsigned at(unsigned hour, unsigned minute = 0) { return 60 * hour + minute; }

TEST(RateSchedule, HasTheRateOfEachRangeAndTheRestElsewhere) {
  const RateSchedule schedule("08:00-18:00=50M,*=0");
  EXPECT_EQ(schedule.rate_at(at(7, 59)), 0u);
  EXPECT_EQ(schedule.rate_at(at(8)), 50 * kMiB);
  EXPECT_EQ(schedule.rate_at(at(17, 59)), 50 * kMiB);
  EXPECT_EQ(schedule.rate_at(at(18)), 0u);
  EXPECT_TRUE(schedule.limits());
}

TEST(RateSchedule, LetsARangeGoOverMidnight) {
  const RateSchedule schedule(" 22:00-06:00=1G , 06:00-22:00=400Mbit ");
  EXPECT_EQ(schedule.rate_at(at(0)), 1024 * kMiB);
  EXPECT_EQ(schedule.rate_at(at(5, 59)), 1024 * kMiB);
  EXPECT_EQ(schedule.rate_at(at(6)), 50'000'000u);
  EXPECT_EQ(schedule.rate_at(at(23, 59)), 1024 * kMiB);
  EXPECT_EQ(schedule.minutes_until_change(at(23)), at(7));
}

TEST(RateSchedule, KnowsWhenTheRateChanges) {
  const RateSchedule schedule("08:00-12:00=50,12:00-18:00=50M,*=10");
  EXPECT_EQ(schedule.minutes_until_change(at(7, 59)), 1u);
  EXPECT_EQ(schedule.minutes_until_change(at(8)), at(10));  // noon changes nothing
  EXPECT_EQ(schedule.minutes_until_change(at(18)), at(14));
  EXPECT_EQ(schedule.minutes_until_change(at(0)), at(8));
}

TEST(RateSchedule, NeverChangesWhenItIsTheSameAllDay) {
  for (const char* text : {"*=5", "00:00-24:00=5", "08:00-20:00=5,20:00-08:00=5M", "08:00-09:00=5,*=5"}) {
    const RateSchedule schedule(text);
    EXPECT_EQ(schedule.minutes_until_change(at(8)), 0u) << text;
    EXPECT_EQ(schedule.rate_at(at(23, 59)), 5 * kMiB) << text;
  }
  EXPECT_FALSE(RateSchedule("*=0").limits());
}

std::string complaint(const std::string& text) {
  try {
    RateSchedule schedule(text);
  } catch (const ScheduleError& error) {
    return error.what();
  }
  return "";
}

TEST(RateSchedule, RefusesWhatOverlapsLeavesAGapOrIsJunk) {
  const std::pair<const char*, const char*> refused[] = {
      {"08:00-18:00=50,17:59-20:00=10,*=0", "17:59-20:00=10: 17:59 is in another range too"},
      {"22:00-06:00=1,05:00-07:00=2,*=0", "05:00 is in another range too"},
      {"08:00-18:00=50", "00:00 has no rate: add *=RATE"},
      {"00:00-08:00=1,09:00-24:00=1", "08:00 has no rate"},
      {"*=1,*=2", "* is given twice"},
      {"08:00-08:00=5,*=0", "begins when it ends"},
      {"", "an empty range"},
      {"*=0,", "an empty range"},
      {"08:00-18:00,*=0", "write ranges such as"},
      {"8:00-18:00=5,*=0", "write ranges such as"},
      {"08:60-18:00=5,*=0", "write ranges such as"},
      {"08:00-24:01=5,*=0", "write ranges such as"},
      {"24:00-08:00=5,*=0", "write ranges such as"},
      {"08:00=5,*=0", "write ranges such as"},
      {"a8:00-18:00=5,*=0", "write ranges such as"},
      {"mon=5,*=0", "write ranges such as"},
      {"08:00-18:00=fast,*=0", "08:00-18:00=fast: write a rate such as"},
      {"*=99999999999T", "write a rate such as"},
      {"*=", "write a rate such as"},
  };
  for (const auto& [text, says] : refused)
    EXPECT_NE(complaint(text).find(says), std::string::npos) << text << " -> " << complaint(text);
}

TEST(RateSchedule, RefusesATextWithoutEnd) { EXPECT_NE(complaint(std::string(100'000, '*')), ""); }

}  // namespace
}  // namespace nasbackup
