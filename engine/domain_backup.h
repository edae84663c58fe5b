// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The backup of a running libvirt domain: the pull job is begun, copied from, watched and ended around a BackupRun.
#pragma once

#include "engine/backup_run.h"

namespace nasbackup {

/// Backs up the domain that the run's options name. Throws Fault; the guest is free and nothing is published then.
JobReport backup_domain(BackupRun& run);

}  // namespace nasbackup
