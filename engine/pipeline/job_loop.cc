// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Thread, pool and stop of a job; see job_loop.h.
#include "engine/pipeline/job_loop.h"

#include <algorithm>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

namespace nasbackup {

JobLoop::JobLoop(unsigned threads, std::stop_token asked_to_stop)
    : threads_(threads != 0 ? threads : std::max(1u, std::thread::hardware_concurrency())),
      pool_(threads_),
      stop_(loop_.get_executor(), stop_source_.get_token()),
      on_asked_(std::move(asked_to_stop), [this] { fail(std::make_exception_ptr(Fault(FaultKind::interrupted, "stopped"))); }) {}

JobLoop::~JobLoop() { pool_.join(); }

void JobLoop::fail(std::exception_ptr failure) {
  asio::post(loop_, [this, failure] { keep_first(failure); });
}

void JobLoop::keep_first(std::exception_ptr failure) {
  if (!failure_) failure_ = failure;
  stop_source_.request_stop();
}

void JobLoop::run(std::function<asio::awaitable<void>()> main) {
  auto on_end = [this](std::exception_ptr failure) {
    if (failure) keep_first(failure);
  };
  asio::co_spawn(loop_, main(), on_end);
  loop_.run();
  loop_.restart();
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace nasbackup
