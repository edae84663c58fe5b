// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A call's turn on a host that makes so many backups at once (max_per_host; cloudstack-contract.md, 9: #12847). One object for
// each process, which has no threads yet and its signals blocked.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "engine/nasbackup.h"
#include "tools/cloudstack/zone.h"
#include "tools/log_file.h"
#include "tools/request.h"

namespace nasbackup::tools::cloudstack {

class Turn {
 public:
  /// Waits until fewer than max_per_host backups are before this one; what is no backup, or has no cap, does not wait. Throws
  /// CallError: a signal, the time-out, the call's deadline; and nasbackup::Error.
  Turn(const Zone& zone, const Request& request, LogFile& log);

  std::chrono::seconds waited() const noexcept { return waited_; }

 private:
  void wait(const Zone& zone, const Request& request, LogFile& log);

  std::optional<HostQueue> place_;  ///< kept until the call is over
  std::chrono::seconds waited_{0};
};

/// Upstream's words [3.10] for a call that is past its deadline.
std::string timed_out_text(const Request& request);

}  // namespace nasbackup::tools::cloudstack
