// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/set_name.h"

#include <gtest/gtest.h>

namespace nasbackup::set {
namespace {

using namespace std::chrono;

const sys_seconds kMoment = sys_days(2026y / March / 9) + 7h + 5min + 1s;

TEST(SetName, IsTheUtcSecondAsCloudStackWritesIt) { EXPECT_EQ("2026.03.09.07.05.01", SetName(kMoment).text()); }

TEST(SetName, IsAlsoAnRfc3339Time) { EXPECT_EQ("2026-03-09T07:05:01Z", SetName(kMoment).rfc3339()); }

TEST(SetName, ReadsBackWhatItWrote) {
  EXPECT_EQ(SetName(kMoment), SetName::parse(SetName(kMoment).text()));
  EXPECT_EQ(SetName(kMoment), SetName::parse_rfc3339(SetName(kMoment).rfc3339()));
}

TEST(SetName, RefusesWhatIsNoMoment) {
  for (const char* text : {"", "2026.03.09.07.05", "2026.03.09.07.05.01 ", "2026.02.29.00.00.00", "2026.13.01.00.00.00",
                           "2026.03.09.24.00.00", "2026.03.09.07.60.00", "2026.03.09.07.05.60", "2026-03-09-07-05-01",
                           "2026.03.09.07.05.0x", "+026.03.09.07.05.01", ".partial-aaaaaaaaaaaaaaaa"}) {
    EXPECT_FALSE(SetName::parse(text)) << text;
  }
}

TEST(SetName, KnowsLeapDays) { EXPECT_TRUE(SetName::parse("2028.02.29.23.59.59")); }

TEST(SetName, CrossesMidnightToTheNextSecond) {
  EXPECT_EQ("2027.01.01.00.00.00", SetName::parse("2026.12.31.23.59.59")->next_second().text());
}

TEST(SetName, SortsByTimeAsItsTextDoes) {
  const SetName early(kMoment);
  EXPECT_LT(early, early.next_second());
  EXPECT_LT(early.text(), early.next_second().text());
}

}  // namespace
}  // namespace nasbackup::set
