// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The checkpoints of a VM and its sets on a target agree (docs/formats/set.md, "Checkpoints"): kept are those of the newest set,
// so that the next increment can stand on it, and of the newest full one, for a differential; all others of the target's ledger
// are deleted, bitmaps and all. Checkpoints that are not in the ledger are nobody's business. No state; blocking.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/set/checkpoint_ledger.h"
#include "engine/vm/domain.h"

namespace nasbackup {

/// A VM on a target.
struct VmOnTarget {
  const set::Directory& directory;  ///< DIR/VM
  std::string name;
  std::string own_run;                           ///< of a backup that is under way: it is left alone; empty: none
  std::function<void(const std::string&)> note;  ///< told what libvirt cannot do now, and the next run tries again; may be empty
};

/// `all`: the domain's disks. Also while a backup of the VM runs, whose checkpoint is left alone. Throws Fault when the ledger or
/// the sets cannot be read.
void settle_checkpoints(const VmOnTarget& vm, vm::Domain& domain, const std::vector<vm::DomainDisk>& all,
                        const set::CheckpointLedger& ledger);

/// After sets were deleted: the same when the target has a ledger with anything in it and libvirt has the domain; else nothing,
/// and the next backup sees to it.
void settle_checkpoints_if_there(const std::string& vm_path, const std::string& connect,
                                 const std::function<void(const std::string&)>& note, LifelineState* state);

}  // namespace nasbackup
