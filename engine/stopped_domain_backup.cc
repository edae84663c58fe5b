// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See stopped_domain_backup.h.
#include "engine/stopped_domain_backup.h"

#include "engine/domain_files.h"
#include "engine/stopped_domain.h"
#include "engine/storage_keys.h"
#include "engine/vm/disks_in_use.h"
#include "engine/vm/leftovers.h"

namespace nasbackup {

namespace {

using Disks = std::vector<vm::DomainDisk>;

Disks choose_disks(const BackupOptions& options, const vm::DomainDescription& description) {
  if (!options.exec_in_job.empty())
    throw Fault(FaultKind::usage,
                "--exec-in-job: " + options.vm + " is shut off, so there is no job and no export: leave it out");
  Disks disks = vm::select_disks(description, options.disks, options.exclude, true);
  refuse_plaintext_of_encrypted(disks, options);
  for (const vm::DomainDisk& disk : disks)
    if (disk.encrypted && options.source_keys.empty())
      throw Fault(FaultKind::wrong_key, disk.target + ": is encrypted, and " + options.vm +
                                            " is shut off; write --source-key FILE to open it, or --exclude " + disk.target);
  return disks;
}

/// Nobody writes to them by other ways than those that the locks show.
void refuse_disks_of_others(BackupRun& run, const Disks& disks) {
  const auto in_use = vm::DisksInUse::ask(run.options().connect, &run.state());
  for (const vm::DomainDisk& disk : disks)
    if (const auto user = in_use.user_of(disk.at_rest.location); user && user->writes && !user->saved)
      throw Fault(FaultKind::source, disk.target + ": " + disk.at_rest.location + ": in use by domain " + user->domain);
}

/// Its key comes from libvirt, as it does when the domain runs.
std::string rbd_location(BackupRun& run, const vm::Domain& domain, const vm::DomainDisk& disk) {
  const vm::RbdDisk& rbd = *disk.at_rest.rbd;
  std::string why_not;
  std::optional<crypto::Secret> key;
  if (!rbd.user.empty()) key = vm::secret_value(domain.connection(), rbd.key, why_not);
  if (!why_not.empty())
    run.note(disk.target + ": the key of client." + rbd.user +
             " is sought where Ceph keeps it: libvirt does not tell it: " + why_not);
  return rbd_location_of(rbd, key ? key->bytes() : std::span<const std::byte>(), run.transfer().storage_keys());
}

void add_disks(BackupRun& run, const vm::Domain& domain, const Disks& disks) {
  for (const vm::DomainDisk& disk : disks) {
    SourcePlace place{disk.at_rest.rbd ? rbd_location(run, domain, disk) : disk.at_rest.location, disk.at_rest.format};
    place.plaintext_allowed = run.options().allow_plaintext;
    place.backing = disk.at_rest.backing;
    set::ManifestDisk entry = manifest_entry(disk);
    if (run.options().chain == ChainPart::increment) entry.full_because = "the VM does not run";
    run.add_disk(std::move(entry), std::move(place));
  }
}

void tell_of_state(BackupRun& run, const vm::Domain& domain, const vm::DomainState& state) {
  run.note(domain.name() + ": is shut off (" + state.reason + "): its disks are read as they lie");
  if (run.options().quiesce) run.note("--quiesce: nothing to freeze in a VM that is shut off");
  if (domain.has_saved_memory())
    run.warn(domain.name() +
             ": its saved memory (virsh managedsave) is not in the backup, nor is what the guest had not written");
}

}  // namespace

JobReport backup_stopped_domain(BackupRun& run, vm::Domain domain) {
  const vm::DomainState state = domain.state();
  const vm::DomainDescription description = domain.describe();
  const Disks disks = choose_disks(run.options(), description);
  run.open_set();
  for (const std::string& line : vm::sweep_leftovers(domain, run.options().scratch)) run.note(line);
  tell_of_state(run, domain, state);
  refuse_disks_of_others(run, disks);
  keep_texts_and_firmware(run, domain, description);
  add_disks(run, domain, disks);
  copy_while_stopped(run);

  set::Manifest manifest;
  manifest.vm_name = description.name;
  manifest.vm_uuid = description.uuid;
  manifest.consistency = state.clean ? "filesystem" : "crash";
  return run.finish(std::move(manifest), 0);
}

}  // namespace nasbackup
