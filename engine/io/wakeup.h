// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The loop's condition variable: coroutines wait until somebody says that something has changed, then look again.
// Used on the loop's thread only, so that nothing can change between the look and the wait.
#pragma once

#include <chrono>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace nasbackup {

namespace asio = boost::asio;

class Wakeup {
 public:
  explicit Wakeup(asio::any_io_executor loop) : timer_(loop, asio::steady_timer::time_point::max()) {}

  asio::awaitable<void> wait() {
    boost::system::error_code cancelled;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  }
  /// Waits until notified, `limit` at most.
  asio::awaitable<void> wait_for(std::chrono::nanoseconds limit) {
    timer_.expires_after(limit);  // wakes whoever waited; each looks again
    co_await wait();
    timer_.expires_at(asio::steady_timer::time_point::max());
  }
  void notify_all() { timer_.cancel(); }

 private:
  asio::steady_timer timer_;
};

}  // namespace nasbackup
