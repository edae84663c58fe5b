// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See increment.h.
#include "engine/increment.h"

#include <algorithm>

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

std::vector<vm::DomainDisk> with_bitmap(const set::Manifest& manifest, const std::vector<vm::DomainDisk>& disks) {
  std::vector<vm::DomainDisk> found;
  for (const vm::DomainDisk& disk : disks)
    for (const set::ManifestDisk& stored : manifest.disks)
      if (stored.has_bitmap && stored.name == disk.target) found.push_back(disk);
  return found;
}

/// What stands on them must not be made worse by what they are.
void refuse_damage(const ProvenSet& newest) {
  for (const ProvenSet* set = &newest; set != nullptr; set = set->parent())
    if (const std::vector<std::string> lines = set->damage(); !lines.empty()) throw Fault(FaultKind::damaged, lines.front());
}

set::ManifestParent reference_to(const set::Manifest& manifest) {
  return {manifest.set, manifest.seal.sha256, manifest.seal.hmac};
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
    throw Fault(FaultKind::not_found,
                "--incremental=" + options_.parent + ": " + run_.partial()->vm().path() + " has no such set");
  }

  /// Why the set cannot be a parent; empty when nothing speaks against it. Asks libvirt last.
  std::string obstacle_of(const set::CatalogueSet& set) {
    if (!set.manifest || set.damaged) return set.name + ": " + (set.note.empty() ? "has no manifest" : set.note);
    if (set.manifest->checkpoint.empty()) return set.name + ": was made without a checkpoint";
    if (!ledger_.is_ours(set.manifest->checkpoint)) return set.name + ": its checkpoint was made for another target";
    if (!ledger_.has(set.manifest->checkpoint)) return set.name + ": its checkpoint was deleted";
    if (const std::string broken = chains_.break_of(set); !broken.empty()) return set.name + ": " + broken;
    if (chains_.below(set).size() > kMostBelow) return set.name + ": stands on 62 others: a full backup is due";
    if ((set.manifest->encryption != "none") != (options_.encrypt != nullptr))
      return set.name + (options_.encrypt ? ": is not encrypted" : ": is encrypted");
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
    refuse_damage(**proven);
    const set::Manifest& manifest = (*proven)->manifest();
    const Bitmaps usable = bitmaps_of(manifest);
    IncrementPlan plan;
    bool any = false;
    for (const vm::DomainDisk& disk : disks_) {
      DiskPart& part = plan.disks[disk.target] = part_of(disk, manifest, usable);
      any = any || !part.parent_file.empty();
    }
    if (!any) return plan;
    plan.proven = proven;
    plan.parent = reference_to(manifest);
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
    const std::string set_name = parent_set();
    const std::string path = run_.partial()->vm().path() + "/" + set_name;
    const set::Directory directory = run_.partial()->vm().open_child(set_name);
    if (!directory.stat(set::kManifestName)) {
      for (const std::string& file : named_.files) refuse_missing(directory, file);
      return plan_full(disks_, set_name + ": was not made by nasbackup");
    }
    const auto proven = std::make_shared<const ParentSet>(run_, SetPlace{path, set_name});
    IncrementPlan plan = plan_on((*proven)->manifest(), directory);
    if (plan.parent) refuse_damage(**proven);
    plan.proven = proven;
    return plan;
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
    const bool good = path.substr(0, first) == vm.substr(vm.rfind('/') + 1) && set::is_file_name(set) &&
                      set::is_file_name(path.substr(last + 1));
    if (!good) throw Fault(FaultKind::usage, "Parent backup file " + path + ": is not in a backup of this VM on the NAS");
    if (!run_.partial()->vm().find_child(set)) throw missing(path);
    return set;
  }

  static Fault missing(const std::string& path) {
    return Fault(FaultKind::not_found, "Parent backup file does not exist on NAS: " + path);
  }

  static void refuse_missing(const set::Directory& directory, const std::string& path) {
    if (!directory.stat(name_of(path))) throw missing(path);
  }

  /// A disk that moved to other storage has another name, and so has the parent that CloudStack makes of it (#13074): what the
  /// set says of its disks tells that from a parent that is missing or another disk's.
  IncrementPlan plan_on(const set::Manifest& manifest, const set::Directory& directory) {
    if (manifest.checkpoint != named_.checkpoint)
      return plan_full(disks_, manifest.set + ": was made with another checkpoint: " + manifest.checkpoint);
    IncrementPlan plan;
    plan.parent = reference_to(manifest);
    plan.checkpoint = named_.checkpoint;
    for (std::size_t i = 0; i < disks_.size(); ++i) {
      const vm::DomainDisk& disk = disks_[i];
      const std::string file = name_of(named_.files[i]);
      const auto is_its = [&](const set::ManifestDisk& one) { return one.id == disk.id; };
      const auto stored = std::find_if(manifest.disks.begin(), manifest.disks.end(),
                                       [&](const set::ManifestDisk& one) { return one.file == file && is_its(one); });
      if (std::none_of(manifest.disks.begin(), manifest.disks.end(), is_its))
        return plan_full(disks_, disk.target + ": was moved or replaced: " + manifest.set + " has nothing of " + disk.id);
      if (stored == manifest.disks.end())
        throw Fault(FaultKind::usage, "Parent backup file " + named_.files[i] + ": is not that of " + disk.target);
      refuse_missing(directory, named_.files[i]);
      if (stored->virtual_size != domain_.disk_size(disk.target)) return plan_full(disks_, disk.target + ": was resized");
      plan.disks[disk.target] = {file, ""};
    }
    return plan;
  }

  const BackupRun& run_;
  const NamedParent& named_;
  vm::Domain& domain_;
  const std::vector<vm::DomainDisk>& disks_;
};

}  // namespace

ParentSet::ParentSet(const BackupRun& run, const SetPlace& place)
    : control_{run.stop(), run.lifeline(), {}, {}, {}},
      ring_(ring_of(run.options().encrypt ? std::vector{run.options().encrypt} : std::vector<std::shared_ptr<const Passphrase>>{},
                    run.stop())),
      set_(place, ring_, control_),
      slot_(set_.slot_for(run.options(), ring_)) {}

std::unique_ptr<DigestChain> IncrementPlan::digests_of(const std::string& target) const {
  const ProvenSet& set = **proven;
  return set.digests_of(set.disk_with(disks.at(target).parent_file));
}

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
