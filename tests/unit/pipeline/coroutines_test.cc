// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The loop's building blocks: queue, turnstile, task group, stop.
#include <gtest/gtest.h>

#include <random>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "engine/io/on_thread.h"
#include "engine/pipeline/job_loop.h"
#include "engine/pipeline/task_group.h"
#include "engine/pipeline/turnstile.h"
#include "engine/pipeline/work_queue.h"

namespace nasbackup {
namespace {

asio::awaitable<void> pause(asio::any_io_executor loop, std::chrono::microseconds time) {
  asio::steady_timer timer(loop, time);
  co_await timer.async_wait(asio::use_awaitable);
}

WorkItem numbered(std::uint64_t n) {
  WorkItem item;
  item.sequence = n;
  return item;
}

struct Fixture : testing::Test {
  std::stop_source stop;
  JobLoop job{2, stop.get_token()};
};

struct QueueTest : Fixture {
  asio::awaitable<void> fill(WorkQueue& queue, unsigned count) {
    for (unsigned i = 0; i < count; ++i) co_await queue.push(numbered(i));
    queue.close();
  }
  asio::awaitable<void> drain(WorkQueue& queue, unsigned& taken) {
    while (const auto item = co_await queue.pop()) {
      ++taken;
      co_await pause(job.executor(), std::chrono::microseconds(50));
    }
  }
};

using WorkQueueTest = QueueTest;

TEST_F(WorkQueueTest, CloseDrainsBeforeReportingEnd) {
  for (const std::size_t capacity : {1u, 2u, 8u}) {
    std::stop_source unused;
    JobLoop own(1, unused.get_token());
    WorkQueue queue(own.executor(), own.stop(), capacity);
    unsigned taken = 0;
    const auto fill = [&]() -> asio::awaitable<void> {
      for (unsigned i = 0; i < 20; ++i) co_await queue.push(numbered(i));
      queue.close();
    };
    const auto drain = [&]() -> asio::awaitable<void> {
      while (const auto item = co_await queue.pop()) ++taken;
    };
    own.run([&]() -> asio::awaitable<void> {
      TaskGroup tasks(own.executor(), [&](std::exception_ptr failure) { own.fail(failure); });
      tasks.spawn(fill());
      tasks.spawn(drain());
      tasks.spawn(drain());
      co_await tasks.join();
    });
    EXPECT_EQ(taken, 20u) << capacity;
  }
}

TEST_F(WorkQueueTest, AStopWakesThoseWhoWaitOnEitherSide) {
  WorkQueue empty(job.executor(), job.stop(), 1);
  WorkQueue full(job.executor(), job.stop(), 1);
  unsigned taken = 0;
  const auto ask_to_stop = [&]() -> asio::awaitable<void> {
    co_await pause(job.executor(), std::chrono::milliseconds(5));
    stop.request_stop();
  };
  const auto all = [&]() -> asio::awaitable<void> {
    TaskGroup tasks(job.executor(), [&](std::exception_ptr failure) { job.fail(failure); });
    tasks.spawn(drain(empty, taken));
    tasks.spawn(fill(full, 5));
    tasks.spawn(ask_to_stop());
    co_await tasks.join();
  };
  EXPECT_THROW(job.run(all), Fault);
}

using TurnstileTest = Fixture;

TEST_F(TurnstileTest, LetsSequencesPassInOrderHoweverTheyArrive) {
  Turnstile turnstile(job.executor(), job.stop());
  std::vector<std::uint64_t> passed;
  std::mt19937 random(5);
  const auto pass = [&](std::uint64_t n, unsigned delay) -> asio::awaitable<void> {
    co_await pause(job.executor(), std::chrono::microseconds(delay));
    co_await turnstile.enter(n);
    passed.push_back(n);
    turnstile.leave();
  };
  const auto all = [&]() -> asio::awaitable<void> {
    TaskGroup tasks(job.executor(), [&](std::exception_ptr failure) { job.fail(failure); });
    for (std::uint64_t n = 0; n < 200; ++n) tasks.spawn(pass(n, random() % 3000));
    co_await tasks.join();
  };
  job.run(all);
  ASSERT_EQ(passed.size(), 200u);
  EXPECT_TRUE(std::is_sorted(passed.begin(), passed.end()));
}

using TaskGroupTest = Fixture;

TEST_F(TaskGroupTest, FirstFailureStopsTheOthersAndIsRethrown) {
  unsigned ended = 0;
  const auto wait_for_stop = [&]() -> asio::awaitable<void> {
    while (!job.stop().stopped()) co_await pause(job.executor(), std::chrono::microseconds(100));
    ++ended;
    throw Fault(FaultKind::interrupted, "stopped");
  };
  const auto fail = [&]() -> asio::awaitable<void> {
    co_await pause(job.executor(), std::chrono::milliseconds(2));
    throw Fault(FaultKind::source, "the first");
  };
  const auto all = [&]() -> asio::awaitable<void> {
    TaskGroup tasks(job.executor(), [&](std::exception_ptr failure) { job.fail(failure); });
    tasks.spawn(wait_for_stop());
    tasks.spawn(fail());
    tasks.spawn(wait_for_stop());
    co_await tasks.join();
  };
  try {
    job.run(all);
    FAIL() << "no failure";
  } catch (const Fault& fault) {
    EXPECT_STREQ(fault.what(), "the first");
  }
  EXPECT_EQ(ended, 2u);
}

using OnThreadTest = Fixture;

TEST_F(OnThreadTest, BringsAnExceptionHomeToTheLoop) {
  const auto loop_thread = std::this_thread::get_id();
  std::thread::id ran_on, came_back_on;
  const auto main = [&]() -> asio::awaitable<void> {
    auto work = [&] {
      ran_on = std::this_thread::get_id();
      throw Fault(FaultKind::failed, "from the pool");
    };
    try {
      co_await on_thread(job.pool(), work);
    } catch (const Fault&) {
      came_back_on = std::this_thread::get_id();
    }
  };
  job.run(main);
  EXPECT_TRUE(ran_on != loop_thread);
  EXPECT_TRUE(came_back_on == loop_thread);
}

}  // namespace
}  // namespace nasbackup
