// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which settings tune() tries, and which it chooses: a search over trials whose speeds the test makes up.
#include "engine/tune_search.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace nasbackup {
namespace {

constexpr TuneSettings kStart{4, 512u << 10, 2};

TuneChoices all_choices() {
  return {{1, 2, 4, 8}, {128u << 10, 256u << 10, 512u << 10, 1u << 20, 2u << 20, 4u << 20}, {1, 2, 4}};
}

/// A made-up host: how fast each setting is, and what was tried.
struct Host {
  std::function<double(const TuneSettings&)> speed;
  std::size_t patience = 1000;
  std::vector<TuneSettings> tried = {};

  TuneSettings search(const TuneChoices& choices = all_choices()) {
    return search_settings(kStart, choices, [this](const TuneSettings& settings) -> std::optional<double> {
      if (tried.size() == patience) return std::nullopt;
      tried.push_back(settings);
      return speed(settings);
    });
  }
};

double hill(const TuneSettings& at) {
  const double size = static_cast<double>(at.item_size) / (1u << 20);
  return 1000 + 100 * at.threads + 50 * at.connections - 300 * std::abs(size - 2);
}

TEST(TuneSearch, ClimbsToTheTopOfAHill) {
  Host host{hill};
  EXPECT_EQ(host.search(), (TuneSettings{8, 2u << 20, 4}));
}

TEST(TuneSearch, TriesFarLessThanTheFullProduct) {
  Host host{hill};
  host.search();
  EXPECT_LE(host.tried.size(), 40u);
}

TEST(TuneSearch, FindsWhatOnlyPaysTogetherWithAnotherChange) {
  // Large items pay with one connection alone, and one connection for large items alone does not lose.
  Host host{[](const TuneSettings& at) { return at.connections == 1 ? (at.item_size == 4u << 20 ? 300. : 120.) : 100.; }};
  EXPECT_EQ(host.search(), (TuneSettings{1, 4u << 20, 2}));
}

TEST(TuneSearch, StaysWhereItBeganWhenGainsAreNoise) {
  Host host{[](const TuneSettings& at) { return at == kStart ? 100. : 102.; }};
  EXPECT_EQ(host.search(), kStart);
}

TEST(TuneSearch, EndsAfterOneRoundWhenNothingChanges) {
  Host host{[](const TuneSettings&) { return 100.; }};
  host.search();
  EXPECT_EQ(host.tried.size(), 3u + 6u + 4u + kFinalists * kFinalRuns);  // each value of each bound once
}

TEST(TuneSearch, ComesBackToWhatWasDisturbedTheFirstTime) {
  int runs = 0;
  Host host{[&](const TuneSettings& at) { return at != kStart ? 50. : ++runs == 1 ? 10. : 100.; }};
  EXPECT_EQ(host.search(), kStart);
}

TEST(TuneSearch, LetsNoSingleLuckyRunDecide) {
  constexpr TuneSettings kLucky{4, 1u << 20, 2};
  int runs = 0;
  Host host{[&](const TuneSettings& at) { return at == kLucky && ++runs <= 1 ? 200. : at.item_size <= 512u << 10 ? 100. : 80.; }};
  EXPECT_LE(host.search({{}, all_choices().item_sizes, {}}).item_size, 512u << 10);
}

TEST(TuneSearch, ReturnsToTheStartWhenThatWasDisturbedAllTheWay) {
  int runs = 0;
  Host host{[&](const TuneSettings& at) { return at != kStart ? 103. : ++runs <= 2 ? 90. : 100.; }};
  EXPECT_EQ(host.search(), kStart);
}

TEST(TuneSearch, ChoosesAmongWhatWasTriedWhenTheTimeIsUp) {
  Host host{hill, 3};
  EXPECT_EQ(host.search().threads, 4u);
  EXPECT_EQ(host.tried.size(), 3u);
  Host hurried{hill, 0};
  EXPECT_EQ(hurried.search(), kStart);
}

TEST(TuneSearch, LeavesAloneWhatHasNoChoice) {
  Host host{hill};
  EXPECT_EQ(host.search({{}, {128u << 10, 2u << 20}, {}}), (TuneSettings{4, 2u << 20, 2}));
  for (const TuneSettings& tried : host.tried) EXPECT_EQ(tried.connections, 4u);
}

TEST(ThreadChoices, ArePowersOfTwoUpToTwiceTheCpusAndTheirNumber) {
  EXPECT_EQ(thread_choices(1), (std::vector<unsigned>{1, 2}));
  EXPECT_EQ(thread_choices(2), (std::vector<unsigned>{1, 2, 4}));
  EXPECT_EQ(thread_choices(6), (std::vector<unsigned>{1, 2, 4, 6, 8}));
}

TEST(BusiestStage, IsTheOneThatWasBusyLongest) {
  EXPECT_EQ(busiest_stage({{"read", 0.5}, {"encode", 0.9}, {"write", 0.7}}), "encode");
  EXPECT_EQ(busiest_stage({{"throttle", 0.95}, {"read", 0.2}}), "throttle");
  EXPECT_EQ(busiest_stage({}), "");
}

TEST(Arguments, CanBeCopiedOntoACommandLine) {
  TuneTrial trial;
  trial.connections = 4;
  trial.item_size = 512u << 10;
  trial.threads = 2;
  trial.compression = "zstd";
  EXPECT_EQ(arguments_of(trial), "--connections 4 --item-size 512K -j 2 -c=zstd");
  trial.connections = 0;
  trial.item_size = 2u << 20;
  trial.compression = "";
  trial.encrypted = true;
  EXPECT_EQ(arguments_of(trial), "--item-size 2M -j 2 -e FILE");
}

}  // namespace
}  // namespace nasbackup
