// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::backup: a libvirt domain, or plain images under a name, into a new set.
#include "engine/domain_backup.h"
#include "engine/io/location.h"
#include "engine/passphrase.h"
#include "engine/set/catalogue.h"
#include "engine/set/text.h"
#include "engine/storage_keys.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

/// libvirt keeps each in a file of its name, QEMU in the image: a name that either would change, or refuse later, is refused now.
void check_checkpoint(const std::string& name) {
  if (!name.empty() && !set::is_file_name(name))
    throw Fault(FaultKind::usage,
                "checkpoint " + set::plain_text(name, 64) +
                    ": no name for one: at most 255 bytes, no slash, no dot at its beginning, no control characters");
}

void check(const BackupOptions& options) {
  const auto refuse = [](const std::string& line) { throw Fault(FaultKind::usage, line); };
  if (options.vm.empty()) refuse(options.sources.empty() ? "backup: which VM? write its name" : "backup: write --name NAME");
  if (options.to.empty()) refuse("backup: write --to DIR");
  const std::string parent = options.named_parent ? options.named_parent->checkpoint : "";
  for (const std::string& checkpoint : {options.checkpoint, options.stopped_bitmap, parent}) check_checkpoint(checkpoint);
  check_source_format(options.source_format);
  check_transfer(options);
  check_encryption(options);
}

JobReport backup_images(BackupRun& run) {
  run.open_set();
  for (const std::string& source : run.options().sources) {
    set::ManifestDisk disk;
    disk.order = static_cast<std::uint64_t>(&source - run.options().sources.data());
    disk.name = "disk" + std::to_string(disk.order);
    disk.id = set::disk_id(source);
    disk.source = location_for_people(source);
    disk.source_type = is_remote(source) ? "network" : "file";
    SourcePlace place{source, run.options().source_format};
    place.plaintext_allowed = run.options().allow_plaintext;
    run.add_disk(std::move(disk), std::move(place));
  }
  run.copy_disks();
  set::Manifest manifest;
  manifest.vm_name = run.options().vm;
  return run.finish(std::move(manifest), 0);
}

}  // namespace

void check_options(const BackupOptions& options) {
  translate_faults([&] { check(options); });
}

JobReport backup(const BackupOptions& options, const JobControl& control) {
  return translate_faults([&] {
    check(options);
    BackupOptions own = options;
    for (std::string& source : own.sources) source = without_key(std::move(source), own.storage_keys);
    if (own.stopped_disks)
      for (std::string& disk : *own.stopped_disks) disk = without_key(std::move(disk), own.storage_keys);
    take_source_secrets(own);
    BackupRun run(own, control);
    return own.sources.empty() ? backup_domain(run) : backup_images(run);
  });
}

}  // namespace nasbackup
