// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The backup of a VM that does not run, by the paths of its disks as CloudStack names them (cloudstack-contract.md, 3.4): a
// device or an rbd: string is a raw disk, always; a regular file is a qcow2 when its magic says so, and what it stands on must
// lie beside it.
#pragma once

#include "engine/backup_run.h"

namespace nasbackup {

/// Of BackupOptions::stopped_disks. Throws Fault.
JobReport backup_disk_paths(BackupRun& run);

}  // namespace nasbackup
