// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The backup of a libvirt domain that is shut off: its disks are read as its XML says, under QEMU's image locks, and it is looked
// all the while whether it was started. Mostly the locks keep it from starting; where QEMU does not see them (device nodes of its
// own, NBD), its start fails the backup.
#pragma once

#include "engine/backup_run.h"
#include "engine/vm/domain.h"

namespace nasbackup {

/// Throws Fault; nothing is published then.
JobReport backup_stopped_domain(BackupRun& run, vm::Domain domain);

}  // namespace nasbackup
