// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rate_control.h; and what the public header offers for reading sizes and rates.
#include "engine/rate_control.h"

#include <unistd.h>

#include "engine/io/run_lock.h"
#include "engine/translate_faults.h"
#include "throttle/quantity.h"

namespace nasbackup {

Limit limit_of(const RateLimit& limit) {
  Limit result{limit.rate, limit.burst, std::nullopt};
  try {
    if (!limit.schedule.empty()) result.schedule.emplace(limit.schedule);
  } catch (const ScheduleError& error) {
    throw Fault(FaultKind::usage, error.what());
  }
  return result;
}

std::unique_ptr<RateGroup> join_rate_group(const std::string& name) {
  if (name.empty()) return nullptr;
  if (::geteuid() != 0) throw Fault(FaultKind::failed, "--rate-group: run it as root: the group lies under /run/nasbackup");
  make_run_directory();
  return std::make_unique<RateGroup>(kRunDirectory, name);
}

RateControl::RateControl() : state_(std::make_unique<RateControlState>()) {}

RateControl::~RateControl() = default;

void RateControl::set(const RateLimit& limit) {
  translate_faults([&] {
    const Limit read = limit_of(limit);
    const std::lock_guard lock(state_->mutex);
    state_->latest = read;
    for (const auto& on_limit : state_->listeners) on_limit(read);
  });
}

RateListener::RateListener(std::shared_ptr<RateControl> control, std::function<void(const Limit&)> on_limit)
    : control_(std::move(control)) {
  if (!control_) return;
  RateControlState& state = control_->state();
  const std::lock_guard lock(state.mutex);
  place_ = state.listeners.insert(state.listeners.end(), std::move(on_limit));
  if (state.latest) (*place_)(*state.latest);
}

RateListener::~RateListener() {
  if (!control_) return;
  const std::lock_guard lock(control_->state().mutex);
  control_->state().listeners.erase(place_);
}

std::uint64_t parse_size(const std::string& text) {
  const auto size = size_from_text(text);
  if (!size) throw Error(Outcome::usage, text + ": write a size such as 65536, 64K, 50MiB or 1G");
  return *size;
}

std::uint64_t parse_rate(const std::string& text) {
  const auto rate = rate_from_text(text);
  if (!rate) throw Error(Outcome::usage, text + ": write a rate such as 50 (MiB/s), 50M, 1G, 400Mbit or 0");
  return *rate;
}

void check_rate_schedule(const std::string& text) {
  translate_faults([&] { limit_of({0, 0, text}); });
}

}  // namespace nasbackup
