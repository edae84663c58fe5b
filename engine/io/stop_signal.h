// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The loop's side of the job's one std::stop_token: whoever may wait (queue, turnstile, limiter, connection) subscribes and is
// called once, on the loop's thread, when the job is asked to stop. Subscribe and unsubscribe on the loop's thread only, or while
// the loop does not run.
#pragma once

#include <functional>
#include <list>
#include <optional>
#include <stop_token>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>

#include "engine/io/fault.h"

namespace nasbackup {

namespace asio = boost::asio;

class StopSignal {
 public:
  StopSignal(asio::any_io_executor loop, std::stop_token token)
      : token_(std::move(token)), callback_(token_, Post{this, std::move(loop)}) {}
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// Calls `on_stop` when the stop comes, for as long as it lives.
  class Subscription {
   public:
    Subscription(StopSignal& signal, std::function<void()> on_stop)
        : signal_(signal), place_(signal.subscribers_.insert(signal.subscribers_.end(), std::move(on_stop))) {}
    ~Subscription() { signal_.subscribers_.erase(place_); }
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

   private:
    StopSignal& signal_;
    std::list<std::function<void()>>::iterator place_;
  };

  /// For what is not on the loop.
  std::stop_token token() const noexcept { return token_; }
  bool stopped() const noexcept { return token_.stop_requested(); }
  void throw_if_stopped() const {
    if (stopped()) throw Fault(FaultKind::interrupted, "stopped");
  }

 private:
  struct Post {
    StopSignal* signal;
    asio::any_io_executor loop;
    void operator()() const {
      asio::post(loop, [signal = signal] {
        for (const auto& on_stop : signal->subscribers_) on_stop();
      });
    }
  };

  std::stop_token token_;
  std::list<std::function<void()>> subscribers_;
  std::stop_callback<Post> callback_;
};

}  // namespace nasbackup
