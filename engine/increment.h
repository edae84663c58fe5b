// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What an incremental backup of a running domain stands on: a set whose checkpoint still tells what changed, proven; and for each
// disk whether it stands on it, or why the disk is stored as a whole. Who finds that set: parent_search.h, and named_parent.h for
// CloudStack's calls. No state. Blocking.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backup_run.h"
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
  /// What stands on it must not be made worse by what it is: throws Fault(damaged) for the first of what ProvenSet::damage()
  /// finds.
  void refuse_damage() const;

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

  void stand_on(std::shared_ptr<const ParentSet> set);
  const std::string& parent_name() const noexcept;
  /// Of what the disk of that name, which has a parent_file, was in the parent.
  std::unique_ptr<DigestChain> digests_of(const std::string& target) const;
  /// By target, the checkpoint since which the disk's changes are wanted.
  std::map<std::string, std::string> since() const;
};

/// With no parent at all.
IncrementPlan plan_full(const std::vector<vm::DomainDisk>& disks, const std::string& because);

// ---- the rules -------------------------------------------------------------------------------------------------------------

inline constexpr std::string_view kNoBitmap = "its bitmap is missing or inconsistent";

/// Why nothing that is made with these options can stand on that set; empty when it can. `length`: how many sets its chain has.
std::string mismatch_of(const set::Manifest& set, std::size_t length, const BackupOptions& options);

/// What becomes of a disk of that size, as far as its parent's manifest tells; whether its bitmap is there is asked elsewhere.
DiskPart part_on(const set::Manifest& parent, const vm::DomainDisk& disk, std::uint64_t size, const BackupOptions& options);

}  // namespace nasbackup
