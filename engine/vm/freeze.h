// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Freezing the guest's file systems through its agent for the moment in which the job begins, and thawing them again,
// which is the part that must never be forgotten.
// Thread-safety: one object, one thread. The flag guest_frozen in the LifelineState lets another process take over.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "engine/io/lifeline_state.h"
#include "engine/vm/domain.h"

namespace nasbackup::vm {

/// One request to thaw. True when the agent said thawed, or the domain does not run any more and so has nothing to thaw.
/// Never throws; `answer` gets libvirt's text when it is false.
bool thaw_once(Domain& domain, std::chrono::seconds agent_patience, std::string* answer) noexcept;

/// Repeats thaw_once, reconnecting to libvirt where needed, until it is true or `patience` is over.
bool thaw_until(Domain& domain, std::chrono::seconds patience, std::string* answer) noexcept;

class GuestFreeze {
 public:
  GuestFreeze(Domain& domain, LifelineState& state) : domain_(domain), state_(state) {}

  /// Asks the agent to freeze, waiting at most `timeout` for its answer. Never throws: when it does not work, warning()
  /// says why, and the backup goes on without. Sets guest_frozen before it asks.
  void freeze(AgentChannel agent, std::chrono::seconds timeout) noexcept;

  /// Thaws when a thaw is owed; clears guest_frozen once the agent has said thawed (or the domain is gone).
  /// False: still owed.
  bool thaw(std::chrono::seconds patience) noexcept;

  /// True from the request to freeze until the agent has said thawed: also after a freeze that was not answered.
  bool thaw_owed() const noexcept { return state_.guest_frozen.load(); }
  /// True when the agent confirmed the freeze.
  bool was_frozen() const noexcept { return was_frozen_; }
  /// From the request to freeze to the answer to thaw; zero when the guest was never frozen.
  std::chrono::nanoseconds frozen_for() const noexcept { return frozen_for_; }
  /// Empty: all went well.
  const std::string& warning() const noexcept { return warning_; }
  /// libvirt's text of the last thaw that failed.
  const std::string& thaw_answer() const noexcept { return thaw_answer_; }

 private:
  void judge_failed_freeze(std::chrono::seconds timeout);

  Domain& domain_;
  LifelineState& state_;
  bool was_frozen_ = false;
  std::int64_t asked_ns_ = 0;
  std::chrono::nanoseconds frozen_for_{0};
  std::string warning_;
  std::string thaw_answer_;
};

}  // namespace nasbackup::vm
