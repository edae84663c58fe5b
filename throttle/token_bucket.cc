// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The token bucket's arithmetic; see token_bucket.h. Rate, burst and level are separate words: whoever reads them while another
// changes the limit may reckon one request with the old rate, which is all that can go wrong.
#include "throttle/token_bucket.h"

#include <algorithm>
#include <limits>

namespace nasbackup {

namespace {

/// Products of bytes and nanoseconds need more than 64 bits.
__extension__ typedef __int128 Wide;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kForever = std::numeric_limits<std::int64_t>::max() / 4;  // sums of two stay far from overflow
/// More than anybody can owe at the slowest rate there is (125 bytes per second); beyond it the word is not one of ours.
constexpr std::int64_t kMostOwed = 2 * 86'400 * kSecond;

std::int64_t scaled(std::int64_t value, std::uint64_t multiplier, std::uint64_t divisor) noexcept {
  return static_cast<std::int64_t>(std::clamp<Wide>(static_cast<Wide>(value) * multiplier / divisor, -kForever, kForever));
}

/// How long the rate takes for so many bytes.
std::int64_t time_of(std::uint64_t bytes, std::uint64_t rate) noexcept {
  return static_cast<std::int64_t>(std::min<Wide>(static_cast<Wide>(bytes) * kSecond / rate, kMostOwed / 2));
}

std::int64_t burst_time(std::uint64_t burst, std::uint64_t rate) noexcept {
  return burst == 0 ? kSecond / 10 : time_of(burst, rate);
}

/// The level without what has run over, and without what cannot be.
std::int64_t bounded(std::int64_t paid_at, std::int64_t now, std::int64_t burst) noexcept {
  if (paid_at > now && paid_at - now > kMostOwed) return now;
  return std::max(paid_at, now - burst);
}

}  // namespace

void TokenBucket::set(std::uint64_t rate, std::uint64_t burst, std::int64_t now) noexcept {
  const std::uint64_t old_burst = state_.burst.exchange(burst);
  const std::uint64_t old_rate = state_.rate.exchange(rate);
  if (old_rate == rate) return;
  std::int64_t paid_at = state_.paid_at.load();
  std::int64_t moved = now;
  do {
    if (rate != 0 && old_rate != 0)
      moved = now + scaled(bounded(paid_at, now, burst_time(old_burst, old_rate)) - now, old_rate, rate);
  } while (!state_.paid_at.compare_exchange_weak(paid_at, moved));
}

Reservation TokenBucket::take(std::uint64_t bytes, std::int64_t now) noexcept {
  const std::uint64_t rate = state_.rate.load(std::memory_order_relaxed);
  if (rate == 0) return {now, 0};
  const std::int64_t burst = burst_time(state_.burst.load(std::memory_order_relaxed), rate);
  std::int64_t paid_at = state_.paid_at.load();
  std::int64_t begin = 0;
  do {
    begin = bounded(paid_at, now, burst);
  } while (!state_.paid_at.compare_exchange_weak(paid_at, begin + time_of(bytes, rate)));
  return {begin, rate};
}

std::int64_t TokenBucket::wait_ns(Reservation& taken, std::int64_t now) const noexcept {
  const std::uint64_t rate = state_.rate.load(std::memory_order_relaxed);
  if (rate == 0 || taken.rate == 0 || taken.at <= now) return 0;
  if (rate != taken.rate) taken = {now + scaled(taken.at - now, taken.rate, rate), rate};
  return taken.at - now;
}

}  // namespace nasbackup
