// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Waiting for the rate on a real loop, for short times; how exactly a rate is kept is judged in bench/.
#include "engine/io/limiter.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/io/lifeline_state.h"
#include "nodes.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kKiB = 1024, kMiB = 1u << 20;
const Limit kHoursForOneByte{1, 1, {}};

double seconds_since(std::int64_t began) { return static_cast<double>(monotonic_ns() - began) / 1e9; }

struct LimiterTest : testing::Test, Loop {
  Limiter make(Limit limit, std::unique_ptr<RateGroup> group = nullptr) {
    return {context.get_executor(), stop, std::move(limit), std::move(group)};
  }

  /// Takes `count` times `bytes`.
  static asio::awaitable<void> take(Limiter& limiter, std::uint64_t bytes, int count = 1) {
    for (int i = 0; i < count; ++i) co_await limiter.take(bytes);
  }

  /// Four readers at one limiter; how long it took them.
  double time_readers(Limiter& limiter, std::uint64_t bytes, int count) {
    const std::int64_t began = monotonic_ns();
    for (int i = 0; i < 4; ++i) spawn(take(limiter, bytes, count));
    run_spawned();
    return seconds_since(began);
  }

  void spawn(asio::awaitable<void> task) {
    auto keep = [this](std::exception_ptr error) {
      if (error) failures.push_back(error);
    };
    asio::co_spawn(context, std::move(task), keep);
  }
  void run_spawned() {
    context.run();
    context.restart();
  }

  /// From another thread, while the loop waits.
  template <class Action>
  std::jthread soon(Action action) {
    return std::jthread([action] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      action();
    });
  }

  std::vector<std::exception_ptr> failures;
};

TEST_F(LimiterTest, LetsReadersTakeTogetherWhatTheRateGives) {
  Limiter limiter = make({10 * kMiB, 0, {}});
  const double seconds = time_readers(limiter, 64 * kKiB, 20);  // 5 MiB
  EXPECT_GT(seconds, 0.4);
  EXPECT_LT(seconds, 5);
  EXPECT_NEAR(limiter.waited_seconds(), seconds, 0.2 * seconds);
}

TEST_F(LimiterTest, CostsNothingWithoutALimitOrFarBelowIt) {
  for (const Limit& limit : {Limit{}, Limit{std::uint64_t{1} << 50, 0, {}}}) {
    Limiter limiter = make(limit);
    EXPECT_LT(time_readers(limiter, 512 * kKiB, 20'000), 5);
    EXPECT_EQ(limiter.waited_seconds(), 0);
  }
}

TEST_F(LimiterTest, LetsWhoCameFirstPassFirst) {
  Limiter limiter = make({1 * kMiB, 1, {}});
  std::vector<int> passed;
  const auto reader = [&](int number) -> asio::awaitable<void> {
    co_await limiter.take(10 * kKiB);
    passed.push_back(number);
  };
  for (int i = 0; i < 8; ++i) spawn(reader(i));
  run_spawned();
  EXPECT_EQ(passed, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(LimiterTest, LetsWhoGoesOnPassBeforeThoseWhoBegin) {
  Limiter limiter = make({1 * kMiB, 1, {}});
  std::vector<int> passed;
  const auto reader = [&](int number, bool goes_on) -> asio::awaitable<void> {
    co_await limiter.take(10 * kKiB, goes_on);
    passed.push_back(number);
  };
  for (int i = 0; i < 4; ++i) spawn(reader(i, i == 3));
  run_spawned();
  EXPECT_EQ(passed, (std::vector<int>{0, 1, 3, 2}));
}

TEST_F(LimiterTest, AStopWakesAllWhoWaitAtOnce) {
  Limiter limiter = make(kHoursForOneByte);
  std::int64_t stopped = 0;
  for (int i = 0; i < 4; ++i) spawn(take(limiter, kMiB, 2));
  const auto stopper = soon([&] { stopped = monotonic_ns(), source.request_stop(); });
  run_spawned();
  EXPECT_LT(seconds_since(stopped), 1);
  ASSERT_EQ(failures.size(), 4u);
  for (const auto& failure : failures) EXPECT_THROW(std::rethrow_exception(failure), Fault);
}

TEST_F(LimiterTest, LiftedLetsEverybodyGoAtOnceAndForGood) {
  Limiter limiter = make(kHoursForOneByte);
  const auto lifter = soon([&] { limiter.lift(); });
  EXPECT_LT(time_readers(limiter, kMiB, 1000), 5);
  EXPECT_TRUE(failures.empty());
}

TEST_F(LimiterTest, AnotherLimitHoldsAtOnceForThoseWhoWait) {
  Limiter limiter = make(kHoursForOneByte);
  const auto setter = soon([&] { limiter.set({100 * kMiB, 0, {}}); });
  EXPECT_LT(time_readers(limiter, kMiB, 5), 5);
}

TEST_F(LimiterTest, TheSchedulesRateHoldsAndItsSwitchWakesThoseWhoWait) {
  const std::int64_t began = monotonic_ns();
  const auto clock = [&] { return 8 * 3600 - 1 + static_cast<unsigned>(seconds_since(began)); };  // one second before eight
  Limiter limiter(context.get_executor(), stop, {0, 1, RateSchedule("06:00-08:00=1k,*=0")}, nullptr, clock);
  const double seconds = time_readers(limiter, kMiB, 10);
  EXPECT_GT(seconds, 0.9);
  EXPECT_LT(seconds, 5);
}

TEST_F(LimiterTest, ASlowRateIsReadInSmallSteps) {
  EXPECT_EQ(make({2 * kMiB, 0, {}}).most_at_once(64 * kKiB), 64 * kKiB);
  EXPECT_EQ(make({20 * kMiB, 0, {}}).most_at_once(64 * kKiB), kMiB);
  EXPECT_EQ(make({kMiB, 0, {}}).most_at_once(2 * kMiB), 2 * kMiB);
  EXPECT_GT(make({64 * kKiB, 0, {}}).most_at_once(64 * kKiB), kMiB);
  EXPECT_GT(make({}).most_at_once(64 * kKiB), std::uint64_t{1} << 60);
}

using LimiterOfAGroup = LimiterTest;

TEST_F(LimiterOfAGroup, SharesOneRateBetweenItsMembersFairly) {
  Folder folder;
  Limiter one = make({10 * kMiB, 0, {}}, std::make_unique<RateGroup>(folder.file(""), "g"));
  Limiter other = make({}, std::make_unique<RateGroup>(folder.file(""), "g"));
  std::vector<int> passed;
  const auto reader = [&](Limiter& limiter, int who) -> asio::awaitable<void> {
    for (int i = 0; i < 10; ++i) {
      co_await limiter.take(32 * kKiB);
      passed.push_back(who);
    }
  };
  const std::int64_t began = monotonic_ns();
  for (int i = 0; i < 4; ++i) {
    spawn(reader(one, 1));
    spawn(reader(other, 2));
  }
  run_spawned();
  EXPECT_GT(seconds_since(began), 0.2);  // 2.5 MiB
  EXPECT_LT(seconds_since(began), 5);
  const auto half = passed.begin() + static_cast<std::ptrdiff_t>(passed.size() / 2);
  EXPECT_NEAR(static_cast<double>(std::count(passed.begin(), half, 1)), 20, 5);
}

TEST_F(LimiterOfAGroup, HearsTheLimitThatAnotherMemberNames) {
  Folder folder;
  Limiter one = make(kHoursForOneByte, std::make_unique<RateGroup>(folder.file(""), "g"));
  Limiter other = make({}, std::make_unique<RateGroup>(folder.file(""), "g"));
  for (int i = 0; i < 3; ++i) spawn(take(one, kMiB, 2));
  other.set({100 * kMiB, 0, {}});
  const std::int64_t began = monotonic_ns();
  run_spawned();
  EXPECT_LT(seconds_since(began), 5);
}

TEST_F(LimiterOfAGroup, IsNotLiftedByAMemberThatNamesNoRateAnyMore) {
  Folder folder;
  Limiter one = make({10 * kMiB, 0, {}}, std::make_unique<RateGroup>(folder.file(""), "g"));
  Limiter other = make({20 * kMiB, 0, {}}, std::make_unique<RateGroup>(folder.file(""), "g"));
  other.set({});
  for (int i = 0; i < 10; ++i) spawn(take(one, kMiB, 1));
  const std::int64_t began = monotonic_ns();
  run_spawned();
  EXPECT_GT(seconds_since(began), 0.25);
}

}  // namespace
}  // namespace nasbackup
