// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See increment.h.
#include "engine/increment.h"

#include <algorithm>

#include "engine/luks_image.h"
#include "engine/vm/checkpoint.h"
#include "formats/piece_digest.h"

namespace nasbackup {

namespace {

/// As many as images may stand on each other; one less, for the set that is made.
constexpr std::size_t kMostBelow = 63;

}  // namespace

ParentSet::ParentSet(const BackupRun& run, const SetPlace& place)
    : control_{run.stop(), run.lifeline(), {}, {}, {}},
      ring_(ring_of(run.options().encrypt ? std::vector{run.options().encrypt} : std::vector<std::shared_ptr<const Passphrase>>{},
                    run.stop())),
      set_(place, ring_, control_),
      slot_(set_.slot_for(run.options(), ring_)) {}

void ParentSet::refuse_damage() const {
  for (const ProvenSet* set = &set_; set != nullptr; set = set->parent())
    if (const std::vector<std::string> lines = set->damage(); !lines.empty()) throw Fault(FaultKind::damaged, lines.front());
}

void IncrementPlan::stand_on(std::shared_ptr<const ParentSet> set) {
  const set::Manifest& manifest = (*set)->manifest();
  proven = std::move(set);
  parent = set::ManifestParent{manifest.set, manifest.seal.sha256, manifest.seal.hmac};
  checkpoint = manifest.checkpoint;
}

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

std::string mismatch_of(const set::Manifest& set, std::size_t length, const BackupOptions& options) {
  if (length > kMostBelow) return set.set + ": stands on 63 others: a full backup is due";
  if ((set.encryption != "none") != (options.encrypt != nullptr))
    return set.set + (options.encrypt ? ": is not encrypted" : ": is encrypted");
  return {};
}

DiskPart part_on(const set::Manifest& parent, const vm::DomainDisk& disk, std::uint64_t size, const BackupOptions& options) {
  const auto stored = std::find_if(parent.disks.begin(), parent.disks.end(),
                                   [&](const set::ManifestDisk& one) { return one.name == disk.target; });
  if (!vm::can_hold_bitmap(disk)) return {"", (disk.format.empty() ? disk.type : disk.format) + " cannot hold a bitmap"};
  if (stored == parent.disks.end()) return {"", parent.set + " does not have it"};
  if (stored->id != disk.id || stored->source != disk.source)
    return {"", "was replaced: " + parent.set + " has " + stored->source};
  if (stored->virtual_size != size)
    return {"", "was resized from " + std::to_string(stored->virtual_size) + " to " + std::to_string(size) + " bytes"};
  if (stored->digests.piece_size != digests::piece_size_for(options.cluster_size))
    return {"", parent.set + " has clusters of another size"};
  if (!stored->has_bitmap) return {"", std::string(kNoBitmap)};
  return {stored->file, ""};
}

}  // namespace nasbackup
