// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The bounded queue between the one who finds the work and the workers. Its end is a state of its own: what was pushed before is
// still taken (Asio 1.26's channel loses it). Used on the loop's thread only.
#pragma once

#include <deque>
#include <optional>

#include "engine/io/stop_signal.h"
#include "engine/io/wakeup.h"
#include "engine/pipeline/work_item.h"

namespace nasbackup {

class WorkQueue {
 public:
  WorkQueue(asio::any_io_executor loop, StopSignal& stop, std::size_t capacity)
      : stop_(stop), capacity_(capacity), room_(loop), items_(loop), on_stop_(stop, [this] { wake_all(); }) {}

  /// Waits for room. Throws Fault when the job is stopped.
  asio::awaitable<void> push(WorkItem item) {
    while (queue_.size() >= capacity_ && !stop_.stopped()) co_await room_.wait();
    stop_.throw_if_stopped();
    queue_.push_back(item);
    items_.notify_all();
  }
  /// The next item; nothing when the queue is closed and empty. Throws Fault when the job is stopped.
  asio::awaitable<std::optional<WorkItem>> pop() {
    while (queue_.empty() && !closed_ && !stop_.stopped()) co_await items_.wait();
    stop_.throw_if_stopped();
    if (queue_.empty()) co_return std::nullopt;
    const WorkItem item = queue_.front();
    queue_.pop_front();
    room_.notify_all();
    co_return item;
  }
  /// Nothing is pushed any more.
  void close() {
    closed_ = true;
    items_.notify_all();
  }

 private:
  void wake_all() {
    room_.notify_all();
    items_.notify_all();
  }

  StopSignal& stop_;
  std::size_t capacity_;
  Wakeup room_;
  Wakeup items_;
  std::deque<WorkItem> queue_;
  bool closed_ = false;
  StopSignal::Subscription on_stop_;
};

}  // namespace nasbackup
