// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See named_parent.h.
#include "engine/named_parent.h"

#include <algorithm>

#include "engine/io/base_name.h"
#include "engine/vm/checkpoint.h"

namespace nasbackup {

namespace {

using Bitmaps = std::map<std::string, std::uint64_t>;

/// Judges the parent that CloudStack's call names (cloudstack-contract.md, 3.2): what cannot tell all changes makes the backup a
/// full one, what is no parent is an error.
class NamedParentPlan {
 public:
  NamedParentPlan(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks)
      : run_(run), named_(*run.options().named_parent), domain_(domain), disks_(disks) {}

  IncrementPlan make() {
    try {
      if (const std::string why = missing_bitmap(); !why.empty()) return plan_full(disks_, why);
    } catch (const Fault& fault) {  // libvirt does not take it
      return plan_full(disks_, fault.what());
    }
    const std::string name = parent_set();
    const set::Directory directory = run_.partial()->vm().open_child(name);
    if (!directory.stat(set::kManifestName)) {
      for (std::size_t i = 0; i < disks_.size(); ++i) refuse_missing(directory, named_.files[i]);
      return plan_full(disks_, name + ": was not made by nasbackup");
    }
    try {
      return plan_on(std::make_shared<const ParentSet>(run_, SetPlace{directory.path(), name}), directory);
    } catch (const Fault& fault) {  // it is encrypted, and an increment by the contract never is
      if (fault.kind() != FaultKind::wrong_key) throw;
      return plan_full(disks_, fault.what());
    }
  }

 private:
  /// A checkpoint that libvirt has forgotten, because the domain was defined anew, is told to it again, and forgotten again when
  /// it is of no use.
  std::string missing_bitmap() {
    const bool known = vm::has_checkpoint(domain_, named_.checkpoint);
    if (!known) vm::redefine_checkpoint(domain_, named_.checkpoint, disks_, domain_.describe().disks);
    const Bitmaps usable = vm::usable_bitmaps(domain_, named_.checkpoint);
    for (const vm::DomainDisk& disk : disks_) {
      if (usable.contains(disk.target)) continue;
      if (!known) vm::forget_checkpoint(domain_, named_.checkpoint);
      return disk.target + ": its bitmap " + named_.checkpoint + " is missing or inconsistent";
    }
    return {};
  }

  /// Of VM/SET/FILE for each disk, all in one set of this VM.
  std::string parent_set() const {
    std::string set;
    for (std::size_t i = 0; i < disks_.size(); ++i) {
      if (i >= named_.files.size())
        throw Fault(FaultKind::usage,
                    "PARENT_PATHS list shorter than DISK_PATHS — missing parent for disk index " + std::to_string(i));
      const std::string here = set_of(named_.files[i]);
      if (!set.empty() && here != set) throw Fault(FaultKind::usage, named_.files[i] + ": the parents are not of one backup");
      set = here;
    }
    return set;
  }

  std::string set_of(const std::string& path) const {
    const std::size_t first = path.find('/'), last = path.rfind('/');
    const std::string set = first < last && last != std::string::npos ? path.substr(first + 1, last - first - 1) : "";
    const std::string vm = run_.partial()->vm().path();
    const bool good =
        path.substr(0, first) == base_name(vm) && set::is_file_name(set) && set::is_file_name(path.substr(last + 1));
    if (!good) throw Fault(FaultKind::usage, "Parent backup file " + path + ": is not in a backup of this VM on the NAS");
    if (!run_.partial()->vm().find_child(set)) throw missing(path);
    return set;
  }

  static Fault missing(const std::string& path) {
    return Fault(FaultKind::not_found, "Parent backup file does not exist on NAS: " + path);
  }

  static void refuse_missing(const set::Directory& directory, const std::string& path) {
    if (!directory.stat(std::string(base_name(path)))) throw missing(path);
  }

  /// Why the set, proven, cannot tell what changed since the checkpoint that was named, or carry another; empty when it can.
  std::string mismatch_with(const ProvenSet& parent) const {
    const set::Manifest& manifest = parent.manifest();
    if (manifest.checkpoint != named_.checkpoint)
      return manifest.set + ": was made with another checkpoint: " + manifest.checkpoint;
    std::size_t length = 0;
    for (const ProvenSet* set = &parent; set != nullptr; set = set->parent()) ++length;
    return mismatch_of(manifest, length, run_.options());
  }

  /// A disk that moved to other storage has another name, and so has the parent that CloudStack makes of it (#13074): what the
  /// set says of its disks tells that from a parent that is missing or another disk's.
  IncrementPlan plan_on(const std::shared_ptr<const ParentSet>& parent, const set::Directory& directory) {
    if (const std::string why = mismatch_with(**parent); !why.empty()) return plan_full(disks_, why);
    IncrementPlan plan;
    for (std::size_t i = 0; i < disks_.size(); ++i) {
      const vm::DomainDisk& disk = disks_[i];
      const DiskPart part = part_on((*parent)->manifest(), disk, domain_.disk_size(disk.target), run_.options());
      if (part.parent_file.empty()) return plan_full(disks_, disk.target + ": " + part.full_because);
      refuse_missing(directory, named_.files[i]);
      if (part.parent_file != base_name(named_.files[i]))
        throw Fault(FaultKind::usage, "Parent backup file " + named_.files[i] + ": is not that of " + disk.target);
      plan.disks[disk.target] = part;
    }
    parent->refuse_damage();
    plan.stand_on(parent);
    return plan;
  }

  const BackupRun& run_;
  const NamedParent& named_;
  vm::Domain& domain_;
  const std::vector<vm::DomainDisk>& disks_;
};

}  // namespace

IncrementPlan plan_named_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks) {
  return NamedParentPlan(run, domain, disks).make();
}

void drop_parent_checkpoint(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& all) {
  const std::string& name = run.options().named_parent->checkpoint;
  try {
    vm::uproot_checkpoint(domain, name, all);
  } catch (const Fault& fault) {
    run.note(fault.what());
  }
}

}  // namespace nasbackup
