// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The process that the caller waits for. It touches no target path: it starts the worker, watches over it, shows how far it is,
// gives the guest back when the worker cannot, and leaves a worker behind that hangs in the kernel (ARCHITECTURE.md, "A hung NAS
// holding the guest, or the caller"). One run for each process.
#pragma once

#include <string>

#include "tools/console.h"
#include "tools/log_file.h"
#include "tools/request.h"
#include "tools/result.h"

namespace nasbackup::tools {

/// Blocks the signals that the supervisor waits for; to be called first of all, so that every process of the run inherits it.
void block_signals();

/// "signal 15 (Terminated)".
std::string signal_text(int number);

/// Keys leave traces also outside of the memory that is kept for them: a run that has to do with any leaves no core file. For
/// every process that comes of this one.
void keep_out_of_core_files(const Request& request) noexcept;

/// Runs the verb in a worker to its end, whatever that is. To be called in a process without threads, signals blocked. Throws
/// nasbackup::Error when the run cannot even be started.
Json supervise(const Request& request, Console& console, LogFile& log);

}  // namespace nasbackup::tools
