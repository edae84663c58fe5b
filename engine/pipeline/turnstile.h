// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Lets work items pass one at a time in guest order, however they arrive. Host offsets are allocated in here, and only in here.
// Used on the loop's thread only.
#pragma once

#include <cassert>
#include <map>

#include "engine/io/stop_signal.h"
#include "engine/io/wakeup.h"

namespace nasbackup {

class Turnstile {
 public:
  Turnstile(asio::any_io_executor loop, StopSignal& stop)
      : loop_(std::move(loop)), stop_(stop), on_stop_(stop, [this] { wake_all(); }) {}

  /// Waits until all before `sequence` have left. Throws Fault when the job is stopped.
  asio::awaitable<void> enter(std::uint64_t sequence) {
    assert(sequence >= next_);
    if (sequence != next_) {
      Wakeup turn(loop_);
      waiting_[sequence] = &turn;
      while (sequence != next_ && !stop_.stopped()) co_await turn.wait();
      waiting_.erase(sequence);
    }
    stop_.throw_if_stopped();
  }
  void leave() {
    ++next_;
    if (const auto found = waiting_.find(next_); found != waiting_.end()) found->second->notify_all();
  }

 private:
  void wake_all() {
    for (auto& [sequence, turn] : waiting_) turn->notify_all();
  }

  asio::any_io_executor loop_;
  StopSignal& stop_;
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, Wakeup*> waiting_;
  StopSignal::Subscription on_stop_;
};

}  // namespace nasbackup
