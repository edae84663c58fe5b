// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The token bucket's arithmetic, without a clock.
#include "throttle/token_bucket.h"

#include <gtest/gtest.h>

#include <limits>
#include <thread>
#include <vector>

namespace nasbackup {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

/// A bucket in memory of its own.
struct Bucket : TokenBucket {
  Bucket(std::uint64_t rate, std::uint64_t burst, std::int64_t now = 0) : TokenBucket(state) { set(rate, burst, now); }

  /// How long one waits who takes now.
  std::int64_t wait_for(std::uint64_t bytes, std::int64_t now) {
    Reservation taken = take(bytes, now);
    return wait_ns(taken, now);
  }
  BucketState state;
};

TEST(TokenBucket, StartsEmptyAndFillsToItsBurstOnly) {
  Bucket bucket(1000, 500);
  EXPECT_EQ(bucket.wait_for(250, 0), 0);          // nothing is owed
  EXPECT_EQ(bucket.wait_for(1, 0), kSecond / 4);  // and nothing was saved
  const std::int64_t later = 100 * kSecond;       // a long pause has not saved up more than the burst
  EXPECT_EQ(bucket.wait_for(501, later), 0);
  EXPECT_EQ(bucket.wait_for(1, later), kSecond / 1000);
}

TEST(TokenBucket, HasABurstOfATenthOfASecondUnlessGiven) {
  Bucket bucket(1000, 0);
  EXPECT_EQ(bucket.wait_for(101, kSecond), 0);
  EXPECT_EQ(bucket.wait_for(1, kSecond), kSecond / 1000);
}

TEST(TokenBucket, AdmitsARequestLargerThanItsBurstAndBillsItAfterwards) {
  Bucket bucket(1000, 10);
  EXPECT_EQ(bucket.wait_for(5010, kSecond), 0);
  EXPECT_EQ(bucket.wait_for(1, kSecond), 5 * kSecond);
}

TEST(TokenBucket, LetsThoseWhoTakePassInTheirOrder) {
  Bucket bucket(1000, 1);
  std::vector<Reservation> taken;
  for (int i = 0; i < 4; ++i) taken.push_back(bucket.take(100, 0));
  for (std::size_t i = 1; i < taken.size(); ++i) EXPECT_EQ(taken[i].at - taken[i - 1].at, kSecond / 10);
}

TEST(TokenBucket, KeepsItsMeanRateOverManySmallRequests) {
  Bucket bucket(100 << 20, 0);
  std::int64_t now = 0;
  for (int i = 0; i < 2001; ++i) now += bucket.wait_for(512 << 10, now) + i % 7;  // each wakes a little late
  EXPECT_NEAR(static_cast<double>(now), 10.0 * kSecond, 0.001 * kSecond);
}

TEST(TokenBucket, LosesNoFractionsOverRequestsOfOneByte) {
  Bucket bucket(3, 3);
  std::int64_t now = 0;
  for (int i = 0; i < 3001; ++i) now += bucket.wait_for(1, now);
  EXPECT_NEAR(static_cast<double>(now), 1000.0 * kSecond, 0.0001 * kSecond);
}

TEST(TokenBucket, NeverWaitsWithoutALimit) {
  Bucket free(0, 0);
  EXPECT_EQ(free.wait_for(std::numeric_limits<std::uint64_t>::max(), 0), 0);
  EXPECT_EQ(free.wait_for(1, 0), 0);
}

TEST(TokenBucket, LetsOneWhoWaitsGoWhenTheLimitIsTakenAway) {
  Bucket bucket(1, 1);
  bucket.take(1 << 30, 0);
  Reservation taken = bucket.take(1, 0);
  ASSERT_GT(bucket.wait_ns(taken, 0), 1000 * kSecond);
  bucket.set(0, 0, kSecond);
  EXPECT_EQ(bucket.wait_ns(taken, kSecond), 0);
}

TEST(TokenBucket, KeepsWhatIsOwedInBytesWhenTheRateChanges) {
  Bucket bucket(1000, 100);
  bucket.take(2000, 0);  // owed: two seconds
  Reservation waiting = bucket.take(1000, 0);
  bucket.set(4000, 100, kSecond);  // one of them is paid, 1000 + 1000 bytes are left
  EXPECT_EQ(bucket.wait_ns(waiting, kSecond), kSecond / 4);
  EXPECT_EQ(bucket.wait_for(1, kSecond), kSecond / 2);
}

TEST(TokenBucket, NeitherMakesNorLosesCreditWhenTheRateChanges) {
  Bucket bucket(1000, 400);
  bucket.set(2000, 400, 10 * kSecond);  // full: 400 bytes
  EXPECT_EQ(bucket.wait_for(600, 10 * kSecond), 0);
  EXPECT_EQ(bucket.wait_for(1, 10 * kSecond), kSecond / 10);  // 200 owed at 2000
  bucket.set(1000, 50, 20 * kSecond);                         // full again, but the new burst is smaller
  EXPECT_EQ(bucket.wait_for(150, 20 * kSecond), 0);
  EXPECT_EQ(bucket.wait_for(1, 20 * kSecond), kSecond / 10);
}

TEST(TokenBucket, IsEmptyAfterATimeWithoutALimit) {
  Bucket bucket(1, 1);
  bucket.take(1 << 30, 0);
  bucket.set(0, 0, kSecond);
  bucket.set(1000, 1000, 50 * kSecond);
  EXPECT_EQ(bucket.wait_for(500, 50 * kSecond), 0);
  EXPECT_EQ(bucket.wait_for(1, 50 * kSecond), kSecond / 2);
}

TEST(TokenBucket, SettingTheSameAgainChangesNothing) {
  Bucket bucket(1000, 100);
  bucket.take(1000, 0);
  for (int i = 0; i < 10; ++i) bucket.set(1000, 100, 0);
  EXPECT_EQ(bucket.wait_for(1, 0), kSecond);
}

TEST(TokenBucket, SurvivesTheLargestNumbersAndAClockThatStandsStill) {
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t rate : {std::uint64_t{1}, kMost}) {
    Bucket bucket(rate, kMost);
    for (int i = 0; i < 100; ++i) EXPECT_GE(bucket.wait_for(kMost, 0), 0);
    bucket.set(kMost - rate, 1, 0);
    bucket.set(rate, kMost, 0);
    EXPECT_GE(bucket.wait_for(kMost, std::numeric_limits<std::int64_t>::max() / 2), 0);
  }
}

TEST(TokenBucket, DoesNotTrustALevelThatNobodyCanOwe) {
  Bucket bucket(1000, 100);
  for (const std::int64_t junk : {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()}) {
    bucket.state.paid_at = junk;
    EXPECT_EQ(bucket.wait_for(1, 1000 * kSecond), 0);
    EXPECT_LE(bucket.wait_for(1, 1000 * kSecond), kSecond);
  }
}

TEST(TokenBucket, LosesNothingWhenManyTakeAtOnce) {
  Bucket bucket(1000, 1);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        TokenBucket own(bucket.state);
        for (int i = 0; i < 1000; ++i) own.take(1, 0);
      });
  }
  EXPECT_EQ(bucket.wait_for(1, 0), 4 * kSecond);
}

}  // namespace
}  // namespace nasbackup
