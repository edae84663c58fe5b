// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Who waits for the rate; see limiter.h.
#include "engine/io/limiter.h"

#include <algorithm>
#include <chrono>
#include <ctime>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "engine/io/lifeline_state.h"

namespace nasbackup {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kForever = std::numeric_limits<std::int64_t>::max() / 4;
/// Nobody wakes us when another process changes the group's limit.
constexpr std::int64_t kGroupLook = kSecond / 10;
/// The clock on the wall may be set.
constexpr std::int64_t kScheduleLook = 60 * kSecond;
/// Reads of a twentieth of a second: a second then has at most the rate, the burst and that.
constexpr std::uint64_t kReadsPerSecond = 20;
/// Slower than this the steps would be smaller than a cluster, and each would cost the server a request.
constexpr std::uint64_t kSlowestInSteps = 512u << 10;

}  // namespace

unsigned local_time_of_day() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return static_cast<unsigned>(3600 * local.tm_hour + 60 * local.tm_min + std::min(local.tm_sec, 59));
}

/// A place in the line. Its end lets the next one come to the front.
class Limiter::Place {
 public:
  // The first has taken already: nobody passes before it.
  Place(Limiter& limiter, bool goes_on) : limiter_(limiter) {
    auto& line = limiter.line_;
    if (line.empty()) limiter.line_since_ = monotonic_ns();
    place_ = line.emplace(goes_on && !line.empty() ? std::next(line.begin()) : line.end(), limiter.loop_);
  }
  ~Place() {
    limiter_.line_.erase(place_);
    if (limiter_.line_.empty())
      limiter_.waited_ns_ += monotonic_ns() - limiter_.line_since_;
    else
      limiter_.line_.front().cancel();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  bool is_first() const { return place_ == limiter_.line_.begin(); }
  asio::awaitable<void> wait(std::int64_t nanoseconds) const {
    place_->expires_after(std::chrono::nanoseconds(nanoseconds));
    boost::system::error_code woken;
    co_await place_->async_wait(asio::redirect_error(asio::use_awaitable, woken));
  }

 private:
  Limiter& limiter_;
  std::list<asio::steady_timer>::iterator place_;
};

Limiter::Limiter(asio::any_io_executor loop, StopSignal& stop, Limit limit, std::unique_ptr<RateGroup> group,
                 std::function<unsigned()> time_of_day)
    : loop_(std::move(loop)),
      stop_(stop),
      group_(std::move(group)),
      bucket_(group_ ? group_->bucket() : own_),
      time_of_day_(std::move(time_of_day)),
      on_stop_(stop, [this] { wake_all(); }) {
  // Who joins a group without a rate of his own takes what holds there.
  if (!group_ || limit.rate != 0 || limit.schedule) apply(std::move(limit));
}

// A member of a group that is killed has taken no more than one read that it did not make: the others in its line take nothing
// before they are at the front.
asio::awaitable<void> Limiter::take(std::uint64_t bytes, bool goes_on) {
  stop_.throw_if_stopped();
  if (lifted_) co_return;
  std::optional<Reservation> taken;
  if (line_.empty()) {
    const std::int64_t now = monotonic_ns();
    follow_schedule(now);
    taken = bucket_.take(bytes, now);
    if (bucket_.wait_ns(*taken, now) == 0) co_return;
  }
  const Place place(*this, goes_on);
  while (!place.is_first()) {
    co_await place.wait(kForever);
    stop_.throw_if_stopped();
    if (lifted_) co_return;
  }
  if (!taken) taken = bucket_.take(bytes, monotonic_ns());
  for (;;) {
    const std::int64_t now = monotonic_ns();
    follow_schedule(now);
    const std::int64_t wait = bucket_.wait_ns(*taken, now);
    if (wait == 0) co_return;
    co_await place.wait(std::min(wait, longest_sleep(now)));
    stop_.throw_if_stopped();
    if (lifted_) co_return;
  }
}

std::uint64_t Limiter::most_at_once(std::uint64_t unit) const noexcept {
  const std::uint64_t rate = lifted_ ? 0 : bucket_.rate();
  if (rate < kSlowestInSteps) return std::numeric_limits<std::uint64_t>::max();
  return std::max(unit, rate / kReadsPerSecond / unit * unit);
}

void Limiter::lift() {
  lifted_ = true;
  asio::post(loop_, [this] { wake_all(); });
}

void Limiter::set(Limit limit) {
  asio::post(loop_, [this, limit = std::move(limit)] {
    if (group_ && limit.rate == 0 && !limit.schedule)
      schedule_.reset();  // what holds in the group goes on holding: others live by it
    else
      apply(limit);
    wake_all();
  });
}

double Limiter::waited_seconds() const noexcept {
  const std::int64_t waiting = line_.empty() ? 0 : monotonic_ns() - line_since_;
  return static_cast<double>(waited_ns_ + waiting) / 1e9;
}

void Limiter::apply(Limit limit) {
  const std::int64_t now = monotonic_ns();
  burst_ = limit.burst;
  schedule_ = std::move(limit.schedule);
  scheduled_.reset();
  look_at_ = schedule_ ? now : kForever;
  if (schedule_)
    follow_schedule(now);
  else
    bucket_.set(limit.rate, burst_, now);
}

// Only a change of our own schedule is said: a group has the rate that was named last.
void Limiter::follow_schedule(std::int64_t now) {
  if (now < look_at_) return;
  const unsigned second = time_of_day_();
  const std::uint64_t rate = schedule_->rate_at(second / 60);
  if (scheduled_ != rate) bucket_.set(rate, burst_, now);
  scheduled_ = rate;
  const std::int64_t until = std::int64_t{60} * schedule_->minutes_until_change(second / 60) - second % 60;
  look_at_ = now + (until <= 0 ? kScheduleLook : std::min(until * kSecond, kScheduleLook));
}

std::int64_t Limiter::longest_sleep(std::int64_t now) const noexcept {
  const std::int64_t until_look = std::max<std::int64_t>(look_at_ - now, 1);
  return group_ ? std::min(until_look, kGroupLook) : until_look;
}

void Limiter::wake_all() {
  for (asio::steady_timer& timer : line_) timer.cancel();
}

}  // namespace nasbackup
