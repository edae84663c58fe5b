// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The small process that stands by while a run may hold a guest: in a session of its own, so that it survives when the whole
// process group is killed, and gives the guest back when nobody else is left to do it. Before the process has threads.
#pragma once

#include <sys/types.h>

#include <span>

#include "engine/nasbackup.h"
#include "tools/descriptor.h"
#include "tools/log_file.h"
#include "tools/passphrase_places.h"

namespace nasbackup::tools {

class Guard {
 public:
  /// Starts the process. `lifeline` is the run's; the log and the descriptors of the passphrases are not the process's business.
  Guard(Lifeline& lifeline, LogFile& log, std::span<const PassphrasePlaces* const> secrets);

  /// The end that the worker keeps open: when it closes, the worker is gone.
  Descriptor take_worker_end() { return std::move(worker_end_); }
  /// In the worker, which must not pass for the supervisor.
  void forget() noexcept { orders_.close(); }
  /// Nothing is held any more: ends the process and waits for it.
  void dismiss() noexcept;
  /// Somebody must go on trying to release the guest: the process does, and nobody waits for it.
  void take_over() noexcept;

 private:
  Descriptor orders_;
  Descriptor worker_end_;
  pid_t pid_ = -1;
};

}  // namespace nasbackup::tools
