// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// When does the scratch space become a danger to the guest?
#include "engine/vm/scratch_room.h"

#include <gtest/gtest.h>

namespace nasbackup::vm {
namespace {

constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kGiB = 1ull << 30;
constexpr std::uint64_t kTiB = 1ull << 40;

ScratchRoom room(std::uint64_t total, std::uint64_t free, std::uint64_t worst_case = kTiB, std::uint64_t used = 0) {
  return {total, free, used, worst_case};
}

TEST(ScratchMarks, AreTheLargerOfFivePercentAnd256MiBAndHalfOfIt) {
  EXPECT_EQ(low_mark(64 * kMiB), 256 * kMiB);
  EXPECT_EQ(low_mark(kGiB), 256 * kMiB);
  EXPECT_EQ(low_mark(100 * kGiB), 5 * kGiB);
  EXPECT_EQ(give_up_mark(100 * kGiB), 5 * kGiB / 2);
  EXPECT_EQ(give_up_mark(kGiB), 128 * kMiB);
}

TEST(ScratchVerdict, GoesFromAmpleOverLowToGiveUp) {
  EXPECT_EQ(judge_scratch(room(kGiB, 256 * kMiB), 0), ScratchVerdict::ample);
  EXPECT_EQ(judge_scratch(room(kGiB, 256 * kMiB - 1), 0), ScratchVerdict::low);
  EXPECT_EQ(judge_scratch(room(kGiB, 128 * kMiB), 0), ScratchVerdict::low);
  EXPECT_EQ(judge_scratch(room(kGiB, 128 * kMiB - 1), 0), ScratchVerdict::give_up);
  EXPECT_EQ(judge_scratch(room(kGiB, 0), 0), ScratchVerdict::give_up);
}

TEST(ScratchVerdict, GivesUpEarlyWhenTheGuestWouldFillTheRestBeforeTheAbort) {
  EXPECT_EQ(judge_scratch(room(kGiB, 300 * kMiB), kGiB), ScratchVerdict::ample);
  EXPECT_EQ(judge_scratch(room(kGiB, 300 * kMiB), 2 * kGiB), ScratchVerdict::give_up);
  EXPECT_EQ(judge_scratch(room(100 * kGiB, 50 * kGiB), 4 * kGiB), ScratchVerdict::ample);
}

TEST(ScratchVerdict, IsAmpleOnASmallFileSystemThatHoldsTheWorstCase) {
  const std::uint64_t needed = worst_case_scratch(10 * kMiB);
  EXPECT_EQ(judge_scratch(room(64 * kMiB, 60 * kMiB, needed), 0), ScratchVerdict::ample);
  // What the job has used already needs no room any more ...
  EXPECT_EQ(judge_scratch(room(64 * kMiB, 30 * kMiB, 40 * kMiB, 30 * kMiB), 0), ScratchVerdict::ample);
  // ... and when somebody else eats the room, the marks count again.
  EXPECT_EQ(judge_scratch(room(64 * kMiB, 12 * kMiB, 40 * kMiB, 30 * kMiB), 0), ScratchVerdict::give_up);
}

TEST(ScratchVerdict, ToleratesAUseAboveTheWorstCase) {
  EXPECT_EQ(judge_scratch(room(kGiB, 500 * kMiB, kMiB, 5 * kMiB), 0), ScratchVerdict::ample);
}

TEST(WorstCaseScratch, ExceedsTheDiskByItsTables) {
  EXPECT_GT(worst_case_scratch(kGiB), kGiB + kMiB);
  EXPECT_LT(worst_case_scratch(kGiB), kGiB + 2 * kMiB);
  EXPECT_GT(worst_case_scratch(0), 0u);
  EXPECT_GT(worst_case_scratch(16 * kTiB), 16 * kTiB);
}

TEST(ScratchObstacle, RefusesASmallFileSystemBeforeAnythingBegins) {
  const std::string reason = scratch_obstacle(room(64 * kMiB, 60 * kMiB), "/scratch");
  EXPECT_NE(reason.find("/scratch"), std::string::npos);
  EXPECT_NE(reason.find("60.0 MiB free, 256.0 MiB needed"), std::string::npos) << reason;
}

TEST(ScratchObstacle, RefusesARoomThatTheWatchWouldGiveUpSoon) {
  EXPECT_NE(scratch_obstacle(room(kGiB, 200 * kMiB), "/s"), "");
  EXPECT_NE(scratch_obstacle(room(100 * kGiB, 2 * kGiB), "/s"), "");
}

TEST(ScratchObstacle, AllowsALargeFileSystemThatIsNearlyFullButHasRoom) {
  EXPECT_EQ(scratch_obstacle(room(100 * kGiB, 3 * kGiB), "/s"), "");
  EXPECT_EQ(scratch_obstacle(room(kGiB, 256 * kMiB), "/s"), "");
}

TEST(ScratchObstacle, AllowsASmallFileSystemThatHoldsTheWorstCase) {
  EXPECT_EQ(scratch_obstacle(room(64 * kMiB, 50 * kMiB, worst_case_scratch(10 * kMiB)), "/s"), "");
}

}  // namespace
}  // namespace nasbackup::vm
