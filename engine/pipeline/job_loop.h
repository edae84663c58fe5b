// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The thread, the pool and the stop of one job. The calling thread becomes the loop; the pool is for blocking reads and for
// arithmetic. First failure wins: it stops everybody else, who are drained and joined before it is rethrown.
#pragma once

#include <exception>
#include <functional>
#include <stop_token>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include "engine/io/stop_signal.h"

namespace nasbackup {

class JobLoop {
 public:
  /// `threads` of the pool, 0: one for each CPU.
  JobLoop(unsigned threads, std::stop_token asked_to_stop);
  ~JobLoop();

  asio::any_io_executor executor() { return loop_.get_executor(); }
  asio::any_io_executor pool() { return pool_.get_executor(); }
  unsigned threads() const noexcept { return threads_; }
  StopSignal& stop() noexcept { return stop_; }

  /// Ends the job with this failure, unless it has one already. From any thread.
  void fail(std::exception_ptr failure);
  /// Runs `main` and all that it spawns to its end. Throws the first failure.
  void run(std::function<asio::awaitable<void>()> main);

 private:
  void keep_first(std::exception_ptr failure);

  asio::io_context loop_{1};
  unsigned threads_;
  asio::thread_pool pool_;
  std::stop_source stop_source_;
  StopSignal stop_;
  std::exception_ptr failure_;
  std::stop_callback<std::function<void()>> on_asked_;
};

}  // namespace nasbackup
