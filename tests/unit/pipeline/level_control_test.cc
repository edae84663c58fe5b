// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How strong `auto` compresses, against a model of a machine. No clock.
#include "engine/pipeline/level_control.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace nasbackup {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
const std::vector<double> kCosts{3e6, 10e6, 30e6};  // ns for a MiB: 333, 100, 33 MiB/s on one thread

/// Two threads that encode at `slowness` times the guess, behind stages that deliver `supply` MiB/s. Runs for two seconds.
struct Machine {
  double supply;
  double slowness = 1;
  LevelControl control{kCosts, 2, 0};
  std::int64_t now = 0;

  void run() {
    for (const std::int64_t end = now + 2000 * kMillisecond; now < end; now += 10 * kMillisecond) {
      const std::size_t rung = control.rung();
      const double cost = kCosts[rung] * slowness;
      const double mib = std::min(supply, 2e9 / cost) / 100;
      control.note(rung, static_cast<std::uint64_t>(mib * (1 << 20)), static_cast<std::int64_t>(mib * cost), now);
    }
  }
};

TEST(LevelControl, StaysAtTheFastestWhileNothingElseIsSlower) {
  Machine machine{1e6};
  machine.run();
  EXPECT_EQ(machine.control.rung(), 0u);
  EXPECT_EQ(machine.control.bytes_by_rung()[2], 0u);
}

TEST(LevelControl, TakesTheStrongestThatKeepsUpWithASlowLink) {
  Machine fast{120}, slow{40};
  fast.run();
  slow.run();
  EXPECT_EQ(fast.control.rung(), 1u);
  EXPECT_EQ(slow.control.rung(), 2u);
}

TEST(LevelControl, LearnsThatThisMachineIsSlower) {
  Machine machine{120, 3};
  machine.run();
  EXPECT_EQ(machine.control.rung(), 0u);
}

TEST(LevelControl, ClimbsDownWhenTheLinkBecomesFast) {
  Machine machine{40};
  machine.run();
  machine.supply = 1e6;
  machine.run();
  EXPECT_EQ(machine.control.rung(), 0u);
}

}  // namespace
}  // namespace nasbackup
