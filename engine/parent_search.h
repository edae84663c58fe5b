// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The parent of an increment, found: the newest set of the VM on the target, or the one that the options name, whose checkpoint
// still tells what changed. No state. Blocking.
#pragma once

#include <vector>

#include "engine/increment.h"
#include "engine/set/checkpoint_ledger.h"

namespace nasbackup {

/// Throws Fault: usage when a parent was named that cannot be one, damaged or wrong_key when the one that was named does not
/// prove.
IncrementPlan plan_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks,
                             const set::CheckpointLedger& ledger);

}  // namespace nasbackup
