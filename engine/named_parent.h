// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The parent of an increment that CloudStack's call names, disk by disk: judged by its contract's rules. No state. Blocking.
#pragma once

#include <vector>

#include "engine/increment.h"

namespace nasbackup {

/// Of `named_parent` in the run's options. What cannot tell all changes makes the backup a full one; a file that is no parent is
/// Fault: usage, not_found or damaged. Also throws what reading the set throws.
IncrementPlan plan_named_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks);

/// The parent's checkpoint is used up: it goes, bitmaps and all. A failure is told by `note`.
void drop_parent_checkpoint(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& all);

}  // namespace nasbackup
