// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Keeps reading to a rate: one token bucket for all disks of a job, or for all jobs of a rate group, awaited before each read so
// that the guest's storage is what is protected. Who waits is woken at once by a stop, by lift(), by another limit and when the
// schedule's rate changes; what others do to the bucket of a group is seen within a tenth of a second.
// Used on the loop's thread only, lift() and set() from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <limits>
#include <list>
#include <memory>
#include <optional>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "engine/io/rate_group.h"
#include "engine/io/stop_signal.h"
#include "throttle/rate_schedule.h"
#include "throttle/token_bucket.h"

namespace nasbackup {

/// How fast may be read.
struct Limit {
  std::uint64_t rate = 0;                ///< bytes per second; 0: no limit. In a group: what holds there
  std::uint64_t burst = 0;               ///< bytes; 0: a tenth of a second of the rate
  std::optional<RateSchedule> schedule;  ///< in place of `rate`
};

/// Seconds since midnight, local time.
unsigned local_time_of_day();

class Limiter {
 public:
  /// `group`: whose bucket is used; null: one of our own. `stop` outlives the limiter.
  Limiter(asio::any_io_executor loop, StopSignal& stop, Limit limit, std::unique_ptr<RateGroup> group = nullptr,
          std::function<unsigned()> time_of_day = local_time_of_day);
  Limiter(const Limiter&) = delete;
  Limiter& operator=(const Limiter&) = delete;

  /// Waits until `bytes` may be read; who came first passes first, and who `goes_on` with a read that has begun before those who
  /// begin one. Throws Fault when the job is stopped meanwhile.
  asio::awaitable<void> take(std::uint64_t bytes, bool goes_on = false);
  /// How much one read may have at most, in whole units: a slow rate is kept in small steps, but for the very slow ones.
  std::uint64_t most_at_once(std::uint64_t unit) const noexcept;

  /// The limit does harm (a scratch file fills up): from now on nothing waits here; other members of a group do.
  void lift();
  /// From now on another limit; in a group for all its members.
  void set(Limit limit);
  /// For how long anybody waited; seconds.
  double waited_seconds() const noexcept;

 private:
  class Place;
  void apply(Limit limit);
  void follow_schedule(std::int64_t now);
  std::int64_t longest_sleep(std::int64_t now) const noexcept;
  void wake_all();

  asio::any_io_executor loop_;
  StopSignal& stop_;
  std::unique_ptr<RateGroup> group_;
  BucketState own_;
  TokenBucket bucket_;
  std::uint64_t burst_ = 0;
  std::function<unsigned()> time_of_day_;
  std::optional<RateSchedule> schedule_;
  std::optional<std::uint64_t> scheduled_;                           // the rate that the schedule last set
  std::int64_t look_at_ = std::numeric_limits<std::int64_t>::max();  // when to ask the schedule again
  std::list<asio::steady_timer> line_;  // of those who wait; only the first has taken from the bucket
  std::int64_t line_since_ = 0;
  std::int64_t waited_ns_ = 0;
  std::atomic<bool> lifted_{false};
  StopSignal::Subscription on_stop_;
};

}  // namespace nasbackup
