// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The user's command that runs beside the copying while the backup job is open (--exec-in-job).
#pragma once

#include <map>
#include <memory>
#include <string>

#include "engine/io/child_process.h"

namespace nasbackup {

/// Starts it. `uris`: disk name to NBD URI; each becomes NASBACKUP_URI_<disk> in its environment, all of them NASBACKUP_URIS.
/// `command` is for /bin/sh. Its stdout is our stderr. Throws Fault when it cannot be started.
std::unique_ptr<ChildProcess> start_command_in_job(const std::string& command, const std::map<std::string, std::string>& uris);

}  // namespace nasbackup
