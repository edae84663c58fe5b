// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The directory that a storage is mounted on: /tmp/csbackup.XXXXX, mode 0700 (cloudstack-contract.md, 3.1), which goes with its
// run. /run/nasbackup/mount-<run id> says where it is before it is made, so that whoever finds the run dead can remove it. Since
// the storage is mounted in a namespace of the run's own, for everybody else the directory is always empty. Thread-safety: one
// thread for each run.
#pragma once

#include <string>

namespace nasbackup {

/// Makes one for this run, below $TMPDIR or /tmp. Throws Fault.
std::string make_mount_point(const std::string& run_id);
/// Removes it and its record; nothing happens when there is none. Where a process that hangs still has the storage mounted, that
/// mount is let go with the directory.
void remove_mount_point(const std::string& run_id) noexcept;
/// Those of dead runs.
void sweep_mount_points() noexcept;

}  // namespace nasbackup
