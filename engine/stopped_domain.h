// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Copying the disks of a VM that must not run meanwhile. The locks of the images keep QEMU out of files; of devices only libvirt
// knows, so it is asked four times a second, and once at the end. Thread-safety: one thread calls; the watch has a thread of its
// own.
#pragma once

#include "engine/backup_run.h"

namespace nasbackup {

/// Throws Fault(source) when the VM of the run's options was started; a VM that libvirt does not know is shut off. A libvirt that
/// cannot be asked does no harm to what is read: a warning.
void copy_while_stopped(BackupRun& run);

}  // namespace nasbackup
