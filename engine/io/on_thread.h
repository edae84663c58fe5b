// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Runs a blocking call on another thread and comes back to the coroutine's own executor, with its exception if it threw one.
// Both hops are in here, so that no caller ever continues on a pool thread. The call may use what the awaiting coroutine owns:
// that coroutine is suspended until the call is over.
#pragma once

#include <exception>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace nasbackup {

namespace asio = boost::asio;

template <class Work>
asio::awaitable<void> on_thread(asio::any_io_executor threads, Work work) {
  std::exception_ptr error;
  auto start = [&](auto handler) {
    auto home = asio::get_associated_executor(handler);
    auto keep_home_running = asio::make_work_guard(home);
    auto call = [&, home, keep = std::move(keep_home_running), resume = std::move(handler)]() mutable {
      try {
        work();
      } catch (...) {
        error = std::current_exception();
      }
      asio::post(home, std::move(resume));
    };
    asio::post(threads, std::move(call));
  };
  co_await asio::async_initiate<decltype(asio::use_awaitable), void()>(start, asio::use_awaitable);
  if (error) std::rethrow_exception(error);
}

}  // namespace nasbackup
