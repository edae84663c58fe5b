// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Coroutines that begin together and end together: join() returns when the last is over and throws the first failure. The first
// failure also calls `on_failure`, which is to stop the others. Used on the loop's thread only; outlives its tasks.
#pragma once

#include <exception>
#include <functional>

#include <boost/asio/co_spawn.hpp>

#include "engine/io/wakeup.h"

namespace nasbackup {

class TaskGroup {
 public:
  TaskGroup(asio::any_io_executor loop, std::function<void(std::exception_ptr)> on_failure)
      : loop_(loop), on_failure_(std::move(on_failure)), ended_(loop) {}

  void spawn(asio::awaitable<void> task) {
    ++running_;
    asio::co_spawn(loop_, std::move(task), [this](std::exception_ptr error) { end_one(error); });
  }
  asio::awaitable<void> join() {
    while (running_ > 0) co_await ended_.wait();
    if (first_failure_) std::rethrow_exception(first_failure_);
  }

 private:
  void end_one(std::exception_ptr error) {
    --running_;
    if (error && !first_failure_) {
      first_failure_ = error;
      on_failure_(error);
    }
    ended_.notify_all();
  }

  asio::any_io_executor loop_;
  std::function<void(std::exception_ptr)> on_failure_;
  Wakeup ended_;
  unsigned running_ = 0;
  std::exception_ptr first_failure_;
};

}  // namespace nasbackup
