// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A bitmap that lies: what the guest wrote while it was not recorded (a disk that was changed by another program, an image that
// was put back) would be missing from every later increment. So a sample of what the bitmap calls unchanged is read from the job
// and compared with the digests of the set on which the increment stands; and all of it that is zero is compared, which costs no
// reading. No state; blocking.
#pragma once

#include <vector>

#include "engine/backup_run.h"
#include "engine/increment.h"
#include "engine/vm/backup_job.h"

namespace nasbackup {

/// While the job runs. Throws Fault(damaged) for the first difference.
void check_clean_sample(BackupRun& run, const IncrementPlan& plan, const std::vector<vm::JobExport>& exports);

}  // namespace nasbackup
