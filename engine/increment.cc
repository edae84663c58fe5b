// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See increment.h.
#include "engine/increment.h"

#include <algorithm>
#include <set>

#include "engine/luks_image.h"
#include "engine/set/catalogue.h"
#include "engine/set/chain.h"
#include "engine/vm/checkpoint.h"
#include "formats/piece_digest.h"

namespace nasbackup {

namespace {

/// As many as images may stand on each other; one less, for the set that is made.
constexpr std::size_t kMostBelow = 63;

using Bitmaps = std::map<std::string, std::uint64_t>;

/// Last part of a path; what is named as DIR/VM/NAME, VM/NAME or NAME.
std::string name_of(std::string path) {
  while (path.ends_with('/')) path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

bool knows(vm::Domain& domain, const std::string& checkpoint) {
  const std::vector<std::string> names = vm::checkpoint_names(domain);
  return std::find(names.begin(), names.end(), checkpoint) != names.end();
}

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
    const std::string name = name_of(options_.parent);
    for (const set::CatalogueSet& set : sets_) {
      if (set.name != name) continue;
      if (const std::string obstacle = obstacle_of(set); !obstacle.empty())
        throw Fault(FaultKind::usage, "--incremental=" + options_.parent + ": " + obstacle);
      return set;
    }
    throw Fault(FaultKind::not_found, "--incremental=" + options_.parent + ": " + run_.partial()->vm().path() + " has no such set");
  }

  /// Why the set cannot be a parent; empty when nothing speaks against it. Asks libvirt last.
  std::string obstacle_of(const set::CatalogueSet& set) {
    if (!set.manifest || set.damaged) return set.name + ": " + (set.note.empty() ? "has no manifest" : set.note);
    if (set.manifest->checkpoint.empty()) return set.name + ": was made without a checkpoint";
    if (!ledger_.is_ours(set.manifest->checkpoint)) return set.name + ": its checkpoint was made for another target";
    if (const std::string broken = chains_.break_of(set); !broken.empty()) return set.name + ": " + broken;
    if (chains_.below(set).size() > kMostBelow) return set.name + ": stands on 62 others: a full backup is due";
    if ((set.manifest->encryption != "none") != (options_.encrypt != nullptr))
      return set.name + (options_.encrypt ? ": is not encrypted" : ": is encrypted");
    return bitmaps_of(*set.manifest).empty() ? set.name + ": the bitmaps of its checkpoint are missing or inconsistent" : "";
  }

  /// libvirt is told of the checkpoint again when it has forgotten it.
  Bitmaps bitmaps_of(const set::Manifest& manifest) {
    const std::vector<vm::DomainDisk> marked = with_bitmap(manifest, disks_);
    if (marked.empty()) return {};
    if (!knows(domain_, manifest.checkpoint)) vm::redefine_checkpoint(domain_, manifest.checkpoint, marked, domain_.describe().disks);
    return vm::usable_bitmaps(domain_, manifest.checkpoint);
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
    const JobControl control{run_.stop(), run_.lifeline(), {}, {}, {}};
    luks::KeyRing ring = ring_of(options_.encrypt ? std::vector{options_.encrypt} : std::vector<std::shared_ptr<const Passphrase>>{},
                                 control.stop);
    const ProvenSet proven({set.path, set.name}, ring, control);
    const set::Manifest& manifest = proven.manifest();
    const Bitmaps usable = bitmaps_of(manifest);
    IncrementPlan plan;
    bool any = false;
    for (const vm::DomainDisk& disk : disks_) {
      DiskPart& part = plan.disks[disk.target] = part_of(disk, manifest, usable);
      any = any || !part.parent_file.empty();
    }
    if (!any) return plan;
    plan.parent = set::ManifestParent{manifest.set, manifest.seal.sha256, manifest.seal.hmac};
    plan.checkpoint = manifest.checkpoint;
    return plan;
  }

  DiskPart part_of(const vm::DomainDisk& disk, const set::Manifest& manifest, const Bitmaps& usable) {
    const auto stored = std::find_if(manifest.disks.begin(), manifest.disks.end(),
                                     [&](const set::ManifestDisk& one) { return one.name == disk.target; });
    if (!vm::can_hold_bitmap(disk)) return {"", (disk.format.empty() ? disk.type : disk.format) + " cannot hold a bitmap"};
    if (stored == manifest.disks.end()) return {"", manifest.set + " does not have it"};
    if (stored->id != disk.id || stored->source != disk.source)
      return {"", "was replaced: " + manifest.set + " has " + stored->source};
    if (const std::uint64_t size = domain_.disk_size(disk.target); stored->virtual_size != size)
      return {"", "was resized from " + std::to_string(stored->virtual_size) + " to " + std::to_string(size) + " bytes"};
    if (stored->digests.piece_size != digests::piece_size_for(options_.cluster_size))
      return {"", manifest.set + " has clusters of another size"};
    if (!stored->has_bitmap || !usable.contains(disk.target)) return {"", "its bitmap is missing or inconsistent"};
    return {stored->file, ""};
  }

  const BackupRun& run_;
  const BackupOptions& options_;
  vm::Domain& domain_;
  const std::vector<vm::DomainDisk>& disks_;
  const set::CheckpointLedger& ledger_;
  std::vector<set::CatalogueSet> sets_;
  set::Chains chains_;
};

/// The runs whose checkpoints are kept: the newest set's, so that the next increment can stand on it, and the newest full one's, for
/// a differential.
std::set<std::string> needed(const std::vector<set::CatalogueSet>& sets, const set::CheckpointLedger& ledger) {
  std::set<std::string> runs;
  bool newest = false, full = false;
  for (auto set = sets.rbegin(); set != sets.rend(); ++set) {
    if (!set->manifest || set->manifest->checkpoint != ledger.checkpoint_of(set->manifest->run)) continue;
    const bool is_full = set->manifest->kind == set::kFull;
    if (!newest || (is_full && !full)) runs.insert(set->manifest->run);
    newest = true;
    full = full || is_full;
  }
  return runs;
}

}  // namespace

const std::string& IncrementPlan::parent_name() const noexcept {
  static const std::string none;
  return parent ? parent->set : none;
}

std::map<std::string, std::string> IncrementPlan::since() const {
  std::map<std::string, std::string> since;
  for (const auto& [target, part] : disks)
    if (!part.parent_file.empty()) since[target] = checkpoint;
  return since;
}

IncrementPlan plan_full(const std::vector<vm::DomainDisk>& disks, const std::string& because) {
  IncrementPlan plan;
  for (const vm::DomainDisk& disk : disks) plan.disks[disk.target] = {"", because};
  return plan;
}

IncrementPlan plan_increment(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks,
                             const set::CheckpointLedger& ledger) {
  return ParentSearch(run, domain, disks, ledger).run();
}

void settle_checkpoints(const BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& all,
                        const set::CheckpointLedger& ledger) {
  const std::set<std::string> keep = needed(set::list_vm(run.partial()->vm(), run.options().vm), ledger);
  for (const std::string& other : ledger.runs()) {
    if (keep.contains(other) || other == run.run_id()) continue;
    try {
      if (vm::uproot_checkpoint(domain, ledger.checkpoint_of(other), all)) ledger.remove(other);
    } catch (const Fault& fault) {
      run.note(std::string(fault.what()) + " (the next run tries again)");
    }
  }
}

}  // namespace nasbackup
