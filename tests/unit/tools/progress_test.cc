// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Progress as it is shown, with the time handed in.
#include "tools/progress.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace nasbackup::tools {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

Progress at(std::uint64_t done, std::uint64_t read, std::uint64_t stored) {
  return {"copying", 100 * kMiB, done * kMiB, read * kMiB, stored * kMiB};
}

TEST(ProgressMeter, ShowsRatesOfWhatWasReadAndWrittenAndTheTimeLeft) {
  ProgressMeter meter;
  meter.sample(at(0, 0, 0), 0);
  meter.sample(at(20, 10, 4), 2);
  EXPECT_EQ(meter.line(), "copying: 20 %, 20.0 MiB of 100 MiB, read 5.00 MiB/s, written 2.00 MiB/s, 8.00 s left");
}

TEST(ProgressMeter, ForgetsWhatIsLongAgo) {
  ProgressMeter meter;
  meter.sample(at(0, 0, 0), 0);
  for (int second = 1; second <= 20; ++second) meter.sample(at(50, 50, 50), second);
  EXPECT_EQ(meter.line(), "copying: 50 %, 50.0 MiB of 100 MiB, read 0 B/s, written 0 B/s");
}

TEST(ProgressMeter, SaysNothingWrongBeforeAnythingIsKnown) {
  ProgressMeter meter;
  EXPECT_EQ(meter.line(), "starting: 0 %, 0 B of 0 B, read 0 B/s, written 0 B/s");
  meter.sample({"starting", 0, 0, 0, 0}, 0);
  meter.sample({"starting", 0, 0, 0, 0}, 0);
  EXPECT_EQ(nlohmann::json::parse(meter.json())["seconds_left"], nullptr);
}

TEST(ProgressMeter, NeverShowsMoreThanAllOfIt) {
  ProgressMeter meter;
  meter.sample({"flushing", 100, 0, 0, 0}, 0);
  meter.sample({"flushing", 100, 130, 0, 0}, 1);
  EXPECT_NE(meter.line().find("100 %"), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(meter.json())["progress"], 1.0);
}

TEST(TheBar, FitsIntoEveryTerminal) {
  ProgressMeter meter;
  meter.sample(at(0, 0, 0), 0);
  meter.sample(at(50, 50, 50), 1);
  for (std::size_t width = 1; width <= 200; ++width) EXPECT_LE(meter.bar(width, false).size(), width);
  EXPECT_EQ(meter.bar(79, false), "copying     50 % [=====      ] read 50.0 MiB/s, written 50.0 MiB/s, 1.00 s left");
  EXPECT_EQ(meter.bar(79, true),
            "copying     50 % [\x1b[32m=====      \x1b[0m] read 50.0 MiB/s, written 50.0 MiB/s, 1.00 s left");
  EXPECT_NE(meter.bar(200, false).find("50.0 MiB of 100 MiB"), std::string::npos);
}

/// The seconds at which a log of a run gets a line that makes `step` of a hundred MiB every second.
std::vector<int> remarks(double step, int seconds) {
  ProgressRemarks log;
  std::vector<int> told;
  for (int second = 0; second <= seconds; ++second)
    if (log.due(at(static_cast<std::uint64_t>(std::min(100.0, step * second)), 0, 0), second)) told.push_back(second);
  return told;
}

TEST(ProgressRemarks, ComeAtEachTwentiethButNotOftenAndNotNever) {
  EXPECT_EQ(remarks(1, 29), std::vector<int>{});
  EXPECT_EQ(remarks(1, 100), (std::vector<int>{30, 60, 90}));
  EXPECT_EQ(remarks(0.05, 700), (std::vector<int>{100, 200, 300, 400, 500, 600, 700}));
  EXPECT_EQ(remarks(0, 1300), (std::vector<int>{600, 1200}));
  EXPECT_LE(remarks(0.0046, 6 * 3600).size(), 20u + 36u);
}

TEST(ProgressRemarks, SayNothingBeforeThereIsSomethingToCopy) {
  ProgressRemarks log;
  EXPECT_FALSE(log.due({"starting", 0, 0, 0, 0}, 1000));
  EXPECT_TRUE(log.due(at(0, 0, 0), 1000));
}

}  // namespace
}  // namespace nasbackup::tools
