// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The process that does the work and touches the target. Its stdio are our own pipes or nothing; it may be left behind when the
// kernel does not let it go.
#pragma once

#include <memory>

#include "tools/descriptor.h"
#include "tools/request.h"

namespace nasbackup::tools {

/// Through WorkerPipes::control: read the configured limit again.
inline constexpr char kReloadOrder = 'h';

/// The worker's ends of its pipes.
struct WorkerPipes {
  Descriptor control;   ///< read: kReloadOrder; any other byte, or the end of the stream, asks for a clean stop
  Descriptor messages;  ///< written: lines for stderr
  Descriptor result;    ///< written: the result as JSON, once
  Descriptor alive;     ///< held open for the guard; may be none
};

/// Runs the verb and ends the process. To be called in a new process that has no threads yet, with the signals blocked.
[[noreturn]] void run_worker(const Request& request, std::shared_ptr<Lifeline> lifeline, WorkerPipes pipes);

}  // namespace nasbackup::tools
