// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::merge: an increment and all that it stands on become one full set, from the target alone. The disks are read as a
// restore reads them, and compared with the same digests; streams that have the wanted form are not encoded again. What the set
// holds is what the increment holds: so it has its time, and its checkpoint (docs/formats/manifest.md, "merged_from").
#include <algorithm>

#include "engine/backup_run.h"
#include "engine/job_state.h"
#include "engine/passphrase.h"
#include "engine/stored_disks.h"
#include "engine/translate_faults.h"
#include "engine/verification.h"
#include "formats/format_error.h"
#include "formats/sealed_file.h"

namespace nasbackup {

namespace {

/// As people ask for it: "none" is empty.
std::string compression_in(const set::CatalogueSet& found) {
  const std::string& text = found.manifest->compression;
  if (text == "none") return {};
  try {
    return to_string(parse_compression(text));
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, found.path + "/" + set::kManifestName + ": options.compression: " + error.what());
  }
}

/// An increment that is there. Nothing of it is proven yet.
set::CatalogueSet find_increment(const std::string& path, LifelineState* state) {
  set::CatalogueSet found = set::find_set(path, state);
  if (!found.manifest) throw Fault(FaultKind::damaged, found.path + ": " + (found.note.empty() ? "has no manifest" : found.note));
  if (!found.manifest->parent) throw Fault(FaultKind::usage, found.path + ": is a full set: there is nothing to merge it with");
  return found;
}

/// The backup that a merge is: beside the set, in its form unless another was asked for.
BackupOptions options_for(const MergeOptions& options, const set::CatalogueSet& found) {
  BackupOptions own;
  static_cast<TransferOptions&>(own) = options;
  if (own.cluster_size == 0) own.cluster_size = found.manifest->cluster_size;
  if (own.compression.empty()) own.compression = compression_in(found);
  if (own.source_keys.empty() && own.encrypt) own.source_keys = {own.encrypt};
  const std::string vm = found.path.substr(0, found.path.rfind('/'));
  own.vm = own.set = found.vm;
  own.to = vm.substr(0, vm.rfind('/'));
  own.allow_plaintext = options.allow_plaintext;
  own.min_free = options.min_free;
  return own;
}

void add_disks(BackupRun& run, const StoredDisks& stored) {
  const auto& disks = stored.set()->manifest().disks;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    set::ManifestDisk disk = disks[i];
    disk.parent_file.clear();
    disk.full_because.clear();
    disk.luks_uuid.clear();
    SourcePlace source = stored.proven_source(i);
    source.keep_streams = true;
    source.plaintext_allowed = run.options().allow_plaintext;
    run.add_disk(std::move(disk), std::move(source));
  }
}

/// What is sealed is sealed again, with the new set's key.
void add_files(BackupRun& run, const ProvenSet& set) {
  for (const set::ManifestFile& file : set.manifest().files) {
    const std::vector<std::byte> bytes = set.small_file(file.name);
    const std::string content(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (file.name.ends_with(sealed::kSuffix))
      run.add_secret_file(file.name.substr(0, file.name.size() - sealed::kSuffix.size()), content);
    else
      run.add_file(file.name, content);
  }
}

set::Manifest manifest_of(const ProvenSet& newest) {
  const set::Manifest& held = newest.manifest();
  set::Manifest manifest;
  manifest.time = held.time;
  manifest.vm_name = held.vm_name;
  manifest.vm_uuid = held.vm_uuid;
  manifest.checkpoint = held.checkpoint;
  manifest.consistency = held.consistency;
  manifest.warnings = held.warnings;
  for (const ProvenSet* set = &newest; set != nullptr; set = set->parent())
    manifest.merged_from.push_back({set->manifest().set, set->manifest().seal.sha256});
  std::reverse(manifest.merged_from.begin(), manifest.merged_from.end());
  return manifest;
}

/// What cannot be read in a set is damage, whatever it is.
void copy(BackupRun& run) {
  try {
    run.copy_disks();
  } catch (const UnreadableImage& image) {
    throw Fault(FaultKind::damaged, image.what());
  }
}

MergeReport merge_set(const MergeOptions& options, JobControl control) {
  check_encryption(options);
  if (!control.lifeline) control.lifeline = std::make_shared<Lifeline>();
  const set::CatalogueSet found = find_increment(options.path, state_of(control));
  const BackupOptions own = options_for(options, found);
  BackupRun run(own, control);
  run.open_set();
  const StoredDisks stored(found.path, "", own, control);
  const ProvenSet& newest = *stored.set();
  if (newest.encrypted() && !own.encrypt && !own.allow_plaintext)
    throw Fault(FaultKind::usage,
                newest.path() + ": is encrypted, and would be written unencrypted: write -e FILE, or --allow-plaintext");
  if (auto slot = newest.slot_for(own, stored.ring())) run.transfer().share_slot(std::move(*slot));
  add_files(run, newest);
  add_disks(run, stored);
  copy(run);
  set::Manifest manifest = manifest_of(newest);
  MergeReport report;
  for (const set::ManifestSource& source : manifest.merged_from) report.merged_from.push_back(source.set);
  static_cast<JobReport&>(report) = run.finish(std::move(manifest), 0);
  for (std::size_t i = 0; i < report.disks.size(); ++i) report.disks[i].source = stored.disks()[i].path;
  return report;
}

}  // namespace

MergeReport merge(const MergeOptions& options, const JobControl& control) {
  return translate_faults([&] { return merge_set(options, control); });
}

}  // namespace nasbackup
