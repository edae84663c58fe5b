// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Keeps reading to a rate: one token bucket for all disks of a job, awaited before each read so that the guest's storage is what
// is protected. Used on the loop's thread only, lift() from any thread.
#pragma once

#include <algorithm>
#include <atomic>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "engine/io/lifeline_state.h"
#include "engine/io/stop_signal.h"
#include "throttle/token_bucket.h"

namespace nasbackup {

class Limiter {
 public:
  /// `rate` and `burst` as TokenBucket's.
  Limiter(asio::any_io_executor loop, const StopSignal& stop, std::uint64_t rate, std::uint64_t burst)
      : loop_(std::move(loop)), stop_(stop), bucket_(rate, burst, monotonic_ns()) {}

  /// Waits until `bytes` may be read. Throws Fault when the job is stopped meanwhile.
  asio::awaitable<void> take(std::uint64_t bytes) {
    for (;;) {
      stop_.throw_if_stopped();
      if (lifted_) bucket_.lift();
      const std::chrono::nanoseconds wait(bucket_.wait_ns(monotonic_ns()));
      if (wait.count() == 0) break;
      asio::steady_timer until(loop_, std::min<std::chrono::nanoseconds>(wait, kLook));
      co_await until.async_wait(asio::use_awaitable);
    }
    bucket_.take(bytes, monotonic_ns());
  }
  /// The limit does harm (a scratch file fills up): from now on nothing waits.
  void lift() noexcept { lifted_ = true; }

 private:
  static constexpr std::chrono::milliseconds kLook{50};  // how soon a stop and lift() are noticed
  asio::any_io_executor loop_;
  const StopSignal& stop_;
  TokenBucket bucket_;
  std::atomic<bool> lifted_{false};
};

}  // namespace nasbackup
