// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A call of nasbackup.sh where the work is done: in the worker, which touches the storage.
#pragma once

#include <memory>
#include <string>

#include "tools/request.h"
#include "tools/result.h"

namespace nasbackup::tools::cloudstack {

/// Mounts the storage and runs the call on it; `storage` is to be unmounted by the caller. Never throws what the library reports.
/// The result of StorageTask::tell_use has `mount_point`, `total` and `used`
/// (bytes).
Json perform_call(const Request& request, const JobControl& control, std::unique_ptr<MountedStorage>& storage);

/// What stands in the way of a backup with these versions, as the script says it; empty: nothing (cloudstack-contract.md, 3.1).
std::string complaint_about(const HypervisorVersions& versions);

}  // namespace nasbackup::tools::cloudstack
