// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How fast a job may read, also while it runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace nasbackup {

/// How fast a job may read.
struct RateLimit {
  std::uint64_t rate = 0;   ///< bytes per second, all disks together; 0: no limit, and in a group what holds there
  std::uint64_t burst = 0;  ///< bytes; 0: a tenth of a second of the rate
  std::string schedule;     ///< "08:00-18:00=50M,*=0": rates by local time of day, in place of `rate`; empty: none
  bool per_disk = false;    ///< each disk has a limit of its own instead; not in a group

  /// False when it says nothing.
  explicit operator bool() const noexcept { return rate != 0 || !schedule.empty(); }
};

struct RateControlState;

/// Changes the limit of a job while it runs, in a group that of all members. From any thread.
class RateControl {
 public:
  RateControl();
  ~RateControl();
  RateControl(const RateControl&) = delete;
  RateControl& operator=(const RateControl&) = delete;

  /// From now on `limit`, in place of what the job's options say. Throws Error(usage) for a schedule that cannot be read, and
  /// nothing has changed then.
  void set(const RateLimit& limit);

  RateControlState& state() const noexcept { return *state_; }

 private:
  std::unique_ptr<RateControlState> state_;
};

}  // namespace nasbackup
