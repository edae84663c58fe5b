// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What an incremental backup of a running domain stands on: the newest set of the VM on the target (or one that was named) whose
// checkpoint still tells what changed, proven; and for each disk whether it does, or why the disk is stored as a whole. No
// state. Blocking.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/backup_run.h"
#include "engine/set/checkpoint_ledger.h"
#include "engine/vm/domain.h"

namespace nasbackup {

/// What becomes of one disk.
struct DiskPart {
  std::string parent_file;   ///< the image in the parent set on which it stands; empty: it is stored as a whole
  std::string full_because;  ///< and why, when it was to be an increment
};

struct IncrementPlan {
  std::optional<set::ManifestParent> parent;  ///< nothing: all disks are stored as a whole
  std::string checkpoint;                     ///< of the parent
  std::map<std::string, DiskPart> disks;      ///< by target
  std::optional<luks::SharedSlot> slot;       ///< of the parent's images, for those of the increment

  const std::string& parent_name() const noexcept;
  /// By target, the checkpoint since which the disk's changes are wanted.
  std::map<std::string, std::string> since() const;
};

/// Throws Fault: usage when a parent was named that cannot be one, damaged or wrong_key when the one that was named does not prove.
IncrementPlan plan_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks,
                             const set::CheckpointLedger& ledger);

/// The same for `named_parent` of the run's options. Throws Fault also for a file that cannot be one.
IncrementPlan plan_named_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks);

/// The same with no parent at all.
IncrementPlan plan_full(const std::vector<vm::DomainDisk>& disks, const std::string& because);

/// What a new increment stands on by its caller's account is used up: bitmaps and all. A failure is told by `note`.
void drop_parent_checkpoint(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& all);

/// Deletes the checkpoints that no set of this target needs any more: all but those of the newest set and of the newest full one.
/// What libvirt cannot do now stays in the ledger for the next run and is told by `note`.
void settle_checkpoints(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& all,
                        const set::CheckpointLedger& ledger);

}  // namespace nasbackup
