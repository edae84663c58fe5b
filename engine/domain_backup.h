// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The backup of a libvirt domain. Of a running one the pull job is begun, copied from, watched and ended around a BackupRun; one
// that is shut off is stopped_domain_backup.h's.
#pragma once

#include "engine/backup_run.h"

namespace nasbackup {

/// Backs up the domain that the run's options name. Throws Fault; the guest is free and nothing is published then.
JobReport backup_domain(BackupRun& run);

/// Of a VM that does not run the values of source_secrets become source_keys; of one that does nothing is asked. Throws Fault.
void take_source_secrets(BackupOptions& options);

}  // namespace nasbackup
