// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A token bucket: rate and burst, arithmetic only. Time is a parameter (integer nanoseconds of any steady clock), so that tests
// need no clock. The level is kept as the moment at which all that was taken is paid for (virtual scheduling, the other form of a
// leaky bucket in ITU-T I.371): one word, so that the bucket can lie in memory that processes share, with no lock and whole
// whenever one of them dies. Whoever takes is told when it may begin: the order of taking is the order of passing, and a request
// larger than the burst still passes, and the next one waits for it.
// Thread-safety: a BucketState may be used by any number of threads and processes, each through a TokenBucket of its own.
#pragma once

#include <atomic>
#include <cstdint>

namespace nasbackup {

/// Plain words; all zero is a bucket without a limit.
struct BucketState {
  std::atomic<std::int64_t> paid_at{0};  ///< before now: credit; after now: owed
  std::atomic<std::uint64_t> rate{0};    ///< bytes per second; 0: no limit
  std::atomic<std::uint64_t> burst{0};   ///< bytes; 0: a tenth of a second of the rate
};
static_assert(std::atomic<std::int64_t>::is_always_lock_free && std::atomic<std::uint64_t>::is_always_lock_free);

/// What was taken and is not there yet.
struct Reservation {
  std::int64_t at = 0;     ///< when it may begin
  std::uint64_t rate = 0;  ///< at which that was reckoned
};

class TokenBucket {
 public:
  explicit TokenBucket(BucketState& state) noexcept : state_(state) {}

  /// Sets rate and burst as BucketState's. What is owed and saved stays the same number of bytes; what is saved is never more
  /// than the burst, and a bucket that had no limit until now is empty.
  void set(std::uint64_t rate, std::uint64_t burst, std::int64_t now) noexcept;
  /// Takes `bytes`, whether they are there or not.
  Reservation take(std::uint64_t bytes, std::int64_t now) noexcept;
  /// Nanoseconds until what was taken may begin, 0: now. Follows a rate that has changed since.
  std::int64_t wait_ns(Reservation& taken, std::int64_t now) const noexcept;

  std::uint64_t rate() const noexcept { return state_.rate.load(std::memory_order_relaxed); }

 private:
  BucketState& state_;
};

}  // namespace nasbackup
