// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See parent_search.h.
#include "engine/parent_search.h"

#include <algorithm>

#include "engine/io/base_name.h"
#include "engine/set/catalogue.h"
#include "engine/set/chain.h"
#include "engine/vm/checkpoint.h"

namespace nasbackup {

namespace {

using Bitmaps = std::map<std::string, std::uint64_t>;

std::vector<vm::DomainDisk> with_bitmap(const set::Manifest& manifest, const std::vector<vm::DomainDisk>& disks) {
  std::vector<vm::DomainDisk> found;
  for (const vm::DomainDisk& disk : disks)
    for (const set::ManifestDisk& stored : manifest.disks)
      if (stored.has_bitmap && stored.name == disk.target) found.push_back(disk);
  return found;
}

/// Searches one VM's sets for what can be a parent.
class ParentSearch {
 public:
  ParentSearch(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks,
               const set::CheckpointLedger& ledger)
      : run_(run),
        options_(run.options()),
        domain_(domain),
        disks_(disks),
        ledger_(ledger),
        sets_(set::list_vm(run.partial()->vm(), options_.vm)),
        chains_(sets_) {}

  IncrementPlan run() {
    if (!options_.parent.empty()) return plan_on(named());
    std::string why = "there is no earlier set";
    for (auto candidate = sets_.rbegin(); candidate != sets_.rend(); ++candidate) {
      const std::string obstacle = obstacle_of(*candidate);
      if (obstacle.empty()) return try_plan_on(*candidate);
      if (candidate == sets_.rbegin()) why = obstacle;
    }
    return plan_full(disks_, why);
  }

 private:
  const set::CatalogueSet& named() {
    const std::string_view name = base_name(options_.parent);  // DIR/VM/NAME, VM/NAME or NAME
    for (const set::CatalogueSet& set : sets_) {
      if (set.name != name) continue;
      if (const std::string damage = damage_of(set); !damage.empty()) throw Fault(FaultKind::damaged, "--incremental=" + damage);
      if (const std::string obstacle = obstacle_of(set); !obstacle.empty())
        throw Fault(FaultKind::usage, "--incremental=" + options_.parent + ": " + obstacle);
      return set;
    }
    throw Fault(FaultKind::not_found,
                "--incremental=" + options_.parent + ": " + run_.partial()->vm().path() + " has no such set");
  }

  /// What is damaged, of the set or of what it stands on, as far as the listing tells.
  std::string damage_of(const set::CatalogueSet& set) const {
    if (set.damaged) return set.name + ": " + set.note;
    const std::string broken = chains_.break_of(set);
    return broken.empty() ? "" : set.name + ": " + broken;
  }

  /// Why the set cannot be a parent; empty when nothing speaks against it. Asks libvirt last.
  std::string obstacle_of(const set::CatalogueSet& set) {
    if (const std::string damage = damage_of(set); !damage.empty()) return damage;
    if (!set.manifest) return set.name + ": " + (set.note.empty() ? "has no manifest" : set.note);
    if (set.manifest->checkpoint.empty()) return set.name + ": was made without a checkpoint";
    if (!ledger_.is_ours(set.manifest->checkpoint)) return set.name + ": its checkpoint was made for another target";
    if (!ledger_.has(set.manifest->checkpoint)) return set.name + ": its checkpoint was deleted";
    if (const std::string why = mismatch_of(*set.manifest, chains_.below(set).size(), options_); !why.empty()) return why;
    return bitmaps_of(*set.manifest).empty() ? set.name + ": the bitmaps of its checkpoint are missing or inconsistent" : "";
  }

  /// libvirt is told of the checkpoint again when it has forgotten it, and forgets it again when it is of no use.
  Bitmaps bitmaps_of(const set::Manifest& manifest) {
    const std::vector<vm::DomainDisk> marked = with_bitmap(manifest, disks_);
    if (marked.empty()) return {};
    const bool known = vm::has_checkpoint(domain_, manifest.checkpoint);
    if (!known) vm::redefine_checkpoint(domain_, manifest.checkpoint, marked, domain_.describe().disks);
    Bitmaps usable = vm::usable_bitmaps(domain_, manifest.checkpoint);
    if (!known && usable.empty()) vm::forget_checkpoint(domain_, manifest.checkpoint);
    return usable;
  }

  IncrementPlan try_plan_on(const set::CatalogueSet& set) {
    try {
      return plan_on(set);
    } catch (const Fault& fault) {
      if (fault.kind() != FaultKind::damaged && fault.kind() != FaultKind::wrong_key) throw;
      return plan_full(disks_, fault.what());
    }
  }

  IncrementPlan plan_on(const set::CatalogueSet& set) {
    const auto proven = std::make_shared<const ParentSet>(run_, SetPlace{set.path, set.name});
    proven->refuse_damage();
    const set::Manifest& manifest = (*proven)->manifest();
    const Bitmaps usable = bitmaps_of(manifest);
    IncrementPlan plan;
    bool any = false;
    for (const vm::DomainDisk& disk : disks_) {
      DiskPart& part = plan.disks[disk.target] = part_of(disk, manifest, usable);
      any = any || !part.parent_file.empty();
    }
    if (any) plan.stand_on(proven);
    return plan;
  }

  DiskPart part_of(const vm::DomainDisk& disk, const set::Manifest& manifest, const Bitmaps& usable) {
    const DiskPart part = part_on(manifest, disk, domain_.disk_size(disk.target), options_);
    return part.parent_file.empty() || usable.contains(disk.target) ? part : DiskPart{"", std::string(kNoBitmap)};
  }

  const BackupRun& run_;
  const BackupOptions& options_;
  vm::Domain& domain_;
  const std::vector<vm::DomainDisk>& disks_;
  const set::CheckpointLedger& ledger_;
  std::vector<set::CatalogueSet> sets_;
  set::Chains chains_;
};

}  // namespace

IncrementPlan plan_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks,
                             const set::CheckpointLedger& ledger) {
  return ParentSearch(run, domain, disks, ledger).run();
}

}  // namespace nasbackup
