// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The token bucket's arithmetic; see token_bucket.h.
#include "throttle/token_bucket.h"

#include <algorithm>
#include <limits>

namespace nasbackup {

namespace {
/// Products of bytes and nanoseconds need more than 64 bits.
__extension__ typedef __int128 Wide;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kMaxBytes = std::numeric_limits<std::int64_t>::max() / 4;  // sums of two stay far from overflow

std::int64_t bounded(std::uint64_t bytes) noexcept { return static_cast<std::int64_t>(std::min(bytes, kMaxBytes)); }
}  // namespace

TokenBucket::TokenBucket(std::uint64_t rate, std::uint64_t burst, std::int64_t now_ns) noexcept
    : rate_(std::min(rate, kMaxBytes)),
      burst_(bounded(burst != 0 ? burst : std::max<std::uint64_t>(rate / 10, 1))),
      filled_at_(now_ns) {}

std::int64_t TokenBucket::wait_ns(std::int64_t now_ns) noexcept {
  if (rate_ == 0) return 0;
  refill(now_ns);
  if (level_ > 0) return 0;
  const Wide owed = 1 - static_cast<Wide>(level_);
  const Wide wait = (owed * kSecond + rate_ - 1) / rate_;
  return static_cast<std::int64_t>(std::min<Wide>(wait, std::numeric_limits<std::int64_t>::max()));
}

void TokenBucket::take(std::uint64_t bytes, std::int64_t now_ns) noexcept {
  if (rate_ == 0) return;
  refill(now_ns);
  level_ = std::max(level_ - bounded(bytes), -bounded(kMaxBytes));
}

void TokenBucket::refill(std::int64_t now_ns) noexcept {
  if (now_ns <= filled_at_) return;
  const Wide earned = static_cast<Wide>(now_ns - filled_at_) * rate_ / kSecond;
  if (earned == 0) return;  // keep the fraction: filled_at_ stays where it is
  const Wide room = static_cast<Wide>(burst_) - level_;
  level_ = earned >= room ? burst_ : level_ + static_cast<std::int64_t>(earned);
  filled_at_ = earned >= room ? now_ns : filled_at_ + static_cast<std::int64_t>(earned * kSecond / rate_);
}

}  // namespace nasbackup
