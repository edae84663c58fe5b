// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How much is written before its writeback is begun.
#include "engine/io/writeback_stretch.h"

#include <gtest/gtest.h>

namespace nasbackup {
namespace {

constexpr double kMiB = 1 << 20;

/// The longest wait of a file written to a storage of so many bytes per second, from the beginning. At most two stretches are
/// under way.
double longest_flush(double speed, int flushes) {
  WritebackStretch stretch;
  double longest = 0;
  for (int i = 0; i < flushes; ++i) {
    const double seconds = static_cast<double>(stretch.of_flush()) / speed;
    longest = std::max(longest, seconds);
    stretch.flushed_in(std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9)));
  }
  return longest;
}

TEST(WritebackStretch, IsFullAfterAFewStepsOnAFastStorage) {
  WritebackStretch stretch;
  std::uint64_t written = 0;
  for (; stretch.bytes() < WritebackStretch::kMost; written += stretch.of_flush())
    stretch.flushed_in(std::chrono::milliseconds(1));
  EXPECT_LE(written, 128u << 20);
}

TEST(WritebackStretch, KeepsFlushesShortHoweverSlowTheStorageIs) {
  EXPECT_LE(longest_flush(200 * kMiB, 1000), 1);
  EXPECT_LE(longest_flush(10 * kMiB, 1000), 1);
  EXPECT_LE(longest_flush(1 * kMiB, 1000), 2.1);
  EXPECT_LE(longest_flush(0.1 * kMiB, 1000), 21);
}

TEST(WritebackStretch, ShrinksWhenTheStorageBecomesSlow) {
  WritebackStretch stretch;
  for (int i = 0; i < 10; ++i) stretch.flushed_in(std::chrono::milliseconds(1));
  EXPECT_EQ(stretch.bytes(), WritebackStretch::kMost);
  for (int i = 0; i < 10; ++i) stretch.flushed_in(std::chrono::seconds(5));
  EXPECT_EQ(stretch.bytes(), WritebackStretch::kLeast);
}

}  // namespace
}  // namespace nasbackup
