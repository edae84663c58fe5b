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

/// The set on which an increment stands, proven.
class ParentSet {
 public:
  ParentSet(const BackupRun& run, const SetPlace& place);
  const ProvenSet& operator*() const noexcept { return set_; }
  const ProvenSet* operator->() const noexcept { return &set_; }
  /// Of its images, for those that shall stand on them; nothing where they cannot have it.
  const std::optional<luks::SharedSlot>& slot() const noexcept { return slot_; }

 private:
  JobControl control_;
  luks::KeyRing ring_;
  ProvenSet set_;
  std::optional<luks::SharedSlot> slot_;
};

struct IncrementPlan {
  std::optional<set::ManifestParent> parent;  ///< nothing: all disks are stored as a whole
  std::shared_ptr<const ParentSet> proven;    ///< the same set
  std::string checkpoint;                     ///< of the parent
  std::map<std::string, DiskPart> disks;      ///< by target

  const std::string& parent_name() const noexcept;
  /// Of what the disk of that name, which has a parent_file, was in the parent.
  std::unique_ptr<DigestChain> digests_of(const std::string& target) const;
  /// By target, the checkpoint since which the disk's changes are wanted.
  std::map<std::string, std::string> since() const;
};

/// Throws Fault: usage when a parent was named that cannot be one, damaged or wrong_key when the one that was named does not
/// prove.
IncrementPlan plan_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks,
                             const set::CheckpointLedger& ledger);

/// The same for `named_parent` of the run's options. Throws Fault also for a file that cannot be one.
IncrementPlan plan_named_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks);

/// The same with no parent at all.
IncrementPlan plan_full(const std::vector<vm::DomainDisk>& disks, const std::string& because);

/// What a new increment stands on by its caller's account is used up: bitmaps and all. A failure is told by `note`.
void drop_parent_checkpoint(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& all);

}  // namespace nasbackup
