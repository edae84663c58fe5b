// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A token bucket: rate and burst, arithmetic only. Time is a parameter (integer nanoseconds of any steady clock), so that tests
// need no clock. It bills after admission, as QEMU's throttle does: a request larger than the burst still passes, and the next
// one waits for it. Used by one thread at a time.
#pragma once

#include <cstdint>

namespace nasbackup {

class TokenBucket {
 public:
  /// `rate` in bytes per second, 0: no limit. `burst` in bytes, 0: a tenth of a second of the rate. Starts empty.
  TokenBucket(std::uint64_t rate, std::uint64_t burst, std::int64_t now_ns) noexcept;

  /// Nanoseconds until the next request may begin; 0: now.
  std::int64_t wait_ns(std::int64_t now_ns) noexcept;
  /// Bills `bytes` that were admitted.
  void take(std::uint64_t bytes, std::int64_t now_ns) noexcept;
  /// From now on nothing waits.
  void lift() noexcept { rate_ = 0; }

 private:
  void refill(std::int64_t now_ns) noexcept;

  std::uint64_t rate_;
  std::int64_t burst_;
  std::int64_t level_ = 0;  // bytes that may pass; negative: owed
  std::int64_t filled_at_;
};

}  // namespace nasbackup
