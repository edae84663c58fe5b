// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How strong `auto` compresses; see level_control.h.
#include "engine/pipeline/level_control.h"

#include <cassert>

namespace nasbackup {

namespace {

/// Long enough for some items on every thread, short beside what a disk takes.
constexpr std::int64_t kWindow = 100'000'000;
/// The threads are not to be busier than this with compressing: reading, encrypting and writing want some of them too.
constexpr double kFullLoad = 0.75;
constexpr double kMiB = 1 << 20;
/// A correction far off the guess says that the machine was busy with something else, not that it is so slow.
constexpr double kMostCorrection = 8;

}  // namespace

LevelControl::LevelControl(std::vector<double> costs, unsigned threads, std::int64_t now_ns)
    : costs_(std::move(costs)), threads_(threads), bytes_(costs_.size()), window_began_(now_ns) {
  assert(!costs_.empty() && threads > 0);
}

std::size_t LevelControl::rung() const {
  const std::lock_guard lock(mutex_);
  return rung_;
}

void LevelControl::note(std::size_t rung, std::uint64_t bytes, std::int64_t spent_ns, std::int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  bytes_[rung] += bytes;
  window_bytes_ += bytes;
  window_spent_ += spent_ns;
  window_guess_ += costs_[rung] * static_cast<double>(bytes) / kMiB;
  if (now_ns - window_began_ >= kWindow) decide(now_ns);
}

// The demand is what came through in the window. While the encoder itself is the slowest stage it cannot be known, but then the
// threads are all busy, no rung but a faster one has room for as much, and the ladder is climbed down.
void LevelControl::decide(std::int64_t now_ns) {
  const double elapsed = static_cast<double>(now_ns - window_began_);
  if (window_guess_ > 0) {
    const double measured = static_cast<double>(window_spent_) / window_guess_;
    correction_ = (correction_ + std::min(measured, kMostCorrection)) / 2;
    const double demand = static_cast<double>(window_bytes_) / kMiB / elapsed;
    rung_ = 0;
    while (rung_ + 1 < costs_.size() && demand * costs_[rung_ + 1] * correction_ <= kFullLoad * threads_) ++rung_;
  }
  window_began_ = now_ns;
  window_bytes_ = 0;
  window_spent_ = 0;
  window_guess_ = 0;
}

std::vector<std::uint64_t> LevelControl::bytes_by_rung() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace nasbackup
