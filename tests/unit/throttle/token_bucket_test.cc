// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The token bucket's arithmetic, without a clock.
#include "throttle/token_bucket.h"

#include <gtest/gtest.h>

#include <limits>

namespace nasbackup {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

TEST(TokenBucket, StartsEmptyAndFillsToItsBurstOnly) {
  TokenBucket bucket(1000, 500, 0);
  EXPECT_GT(bucket.wait_ns(0), 0);
  EXPECT_EQ(bucket.wait_ns(kSecond), 0);
  bucket.take(500, 100 * kSecond);  // a long pause has not saved up more than the burst
  EXPECT_GT(bucket.wait_ns(100 * kSecond), 0);
}

TEST(TokenBucket, AdmitsARequestLargerThanItsBurstAndBillsItAfterwards) {
  TokenBucket bucket(1000, 10, 0);
  ASSERT_EQ(bucket.wait_ns(kSecond), 0);
  bucket.take(5010, kSecond);  // level: 10 - 5010
  EXPECT_GE(bucket.wait_ns(kSecond), 5 * kSecond);
  EXPECT_LE(bucket.wait_ns(kSecond), 5 * kSecond + kSecond / 500);
}

TEST(TokenBucket, KeepsItsMeanRateOverManySmallRequests) {
  TokenBucket bucket(100 << 20, 0, 0);
  std::int64_t now = 0;
  constexpr std::uint64_t kRequest = 512 << 10;
  constexpr int kRequests = 2000;  // 1000 MiB at 100 MiB/s
  for (int i = 0; i < kRequests; ++i) {
    now += bucket.wait_ns(now);
    bucket.take(kRequest, now);
  }
  EXPECT_NEAR(static_cast<double>(now), 10.0 * kSecond, 0.1 * kSecond);
}

TEST(TokenBucket, LosesNoFractionsWhenAskedVeryOften) {
  TokenBucket bucket(1000, 1000, 0);
  for (std::int64_t now = 0; now <= kSecond; now += 100) bucket.wait_ns(now);  // a tenth of a byte each time
  bucket.take(990, kSecond);
  EXPECT_EQ(bucket.wait_ns(kSecond), 0);
}

TEST(TokenBucket, NeverWaitsWithoutALimitOrOnceLifted) {
  TokenBucket free(0, 0, 0);
  free.take(std::numeric_limits<std::uint64_t>::max(), 0);
  EXPECT_EQ(free.wait_ns(0), 0);
  TokenBucket bucket(1, 1, 0);
  bucket.take(1 << 30, 0);
  ASSERT_GT(bucket.wait_ns(0), 0);
  bucket.lift();
  EXPECT_EQ(bucket.wait_ns(0), 0);
}

TEST(TokenBucket, SurvivesTheLargestNumbersAndAClockThatStandsStill) {
  TokenBucket bucket(std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::uint64_t>::max(), 0);
  for (int i = 0; i < 100; ++i) bucket.take(std::numeric_limits<std::uint64_t>::max(), 0);
  EXPECT_GT(bucket.wait_ns(0), 0);
  EXPECT_GE(bucket.wait_ns(std::numeric_limits<std::int64_t>::max()), 0);
}

}  // namespace
}  // namespace nasbackup
