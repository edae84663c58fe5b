// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The backup of a running domain; see domain_backup.h. One that is shut off: stopped_domain_backup.cc.
#include "engine/domain_backup.h"

#include "engine/clean_sample.h"
#include "engine/command_in_job.h"
#include "engine/disk_paths_backup.h"
#include "engine/domain_files.h"
#include "engine/domain_watch.h"
#include "engine/io/drbd_device.h"
#include "engine/named_parent.h"
#include "engine/parent_search.h"
#include "engine/settle_checkpoints.h"
#include "engine/stopped_domain_backup.h"
#include "engine/vm/backup_job.h"
#include "engine/vm/checkpoint.h"
#include "engine/vm/leftovers.h"
#include "engine/vm/stored_secret.h"

namespace nasbackup {

namespace {

constexpr int kLooksAtItsEnd = 10;
constexpr std::chrono::milliseconds kPauseAtItsEnd{100};

/// Lifts the limit as soon as it does harm. Throws what the job cannot go on with.
void look_at(vm::PullJob& job, BackupRun& run, bool& lifted) {
  if (!job.check().scratch_low || lifted) return;
  lifted = true;
  run.transfer().lift_limit();
  if (run.options().limit) run.note("scratch space is low: the rate limit is lifted");
}

/// The checkpoint of this run's backup in the ledger: from before it is asked for until it is gone, or for good with the backup.
class LedgerEntry {
 public:
  LedgerEntry(const set::CheckpointLedger& ledger, BackupRun& run) : ledger_(ledger), run_(run) { ledger_.add(run_.run_id()); }
  ~LedgerEntry() {
    if (!kept_ && !run_.state().checkpoint.load()) ledger_.remove(run_.run_id());
  }
  LedgerEntry(const LedgerEntry&) = delete;
  LedgerEntry& operator=(const LedgerEntry&) = delete;

  std::string checkpoint() const { return ledger_.checkpoint_of(run_.run_id()); }
  void keep() noexcept { kept_ = true; }

 private:
  const set::CheckpointLedger& ledger_;
  BackupRun& run_;
  bool kept_ = false;
};

void add_disks(BackupRun& run, const std::vector<vm::JobExport>& exports, const IncrementPlan& plan, bool bitmaps) {
  for (const vm::JobExport& disk_export : exports) {
    set::ManifestDisk disk = manifest_entry(disk_export.disk);
    const DiskPart& part = plan.disks.at(disk_export.disk.target);
    disk.parent_file = part.parent_file;
    disk.full_because = part.full_because;
    disk.has_bitmap = bitmaps && vm::can_hold_bitmap(disk_export.disk);
    SourcePlace source{disk_export.uri, "raw"};
    source.job = disk_export.socket;
    source.bitmap = disk_export.bitmap;
    run.add_disk(std::move(disk), std::move(source), plan.parent_name());
  }
}

std::unique_ptr<ChildProcess> start_command(const BackupRun& run, const std::vector<vm::JobExport>& exports) {
  if (run.options().exec_in_job.empty()) return nullptr;
  std::map<std::string, std::string> uris;
  for (const vm::JobExport& disk_export : exports) uris[disk_export.disk.target] = disk_export.uri;
  return start_command_in_job(run.options().exec_in_job, uris);
}

void wait_for_command(BackupRun& run, vm::PullJob& job, ChildProcess* command) {
  if (command == nullptr) return;
  while (!command->has_ended()) {
    run.throw_if_stopped();
    job.check();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (const std::string complaint = command->complaint(); !complaint.empty()) run.warn("--exec-in-job: " + complaint);
}

/// A reader often learns first that the job has ended, but only libvirt knows why, and a moment later.
void say_why_it_ended(vm::PullJob& job) {
  for (int i = 0; i < kLooksAtItsEnd; ++i, std::this_thread::sleep_for(kPauseAtItsEnd)) job.check();
}

/// Copies while the watch looks on.
void copy_watched(BackupRun& run, vm::PullJob& job, const IncrementPlan& plan) {
  bool lifted = false;
  DomainWatch watch(run.transfer(), [&] { look_at(job, run, lifted); });
  try {
    run.copy_disks();
    if (run.options().verify == VerifyLevel::data) check_clean_sample(run, plan, job.exports());
  } catch (const Fault& fault) {
    watch.end();
    if (fault.kind() == FaultKind::source) say_why_it_ended(job);
    throw;
  }
  watch.end();
}

/// Nothing only where the domain is not needed.
std::optional<vm::Domain> find_domain(const BackupOptions& options) {
  try {
    return vm::Domain::by_name(options.connect, options.vm);
  } catch (const Fault& fault) {
    if (fault.kind() != FaultKind::not_found || !options.stopped_disks) throw;
    return std::nullopt;
  }
}

/// CloudStack looks for the backup of a volume by its name, not by a device's number.
void name_drbd_volumes(std::vector<vm::DomainDisk>& disks) {
  for (vm::DomainDisk& disk : disks)
    if (is_drbd_device(disk.source)) disk.id = vm::volume_id(disk.type, drbd_resource_path(disk.source));
}

/// Increments stand on what is in the set of `plan`; the checkpoint, if any, stays when the backup is published.
JobReport copy_in_job(BackupRun& run, vm::Domain& domain, const std::vector<vm::DomainDisk>& disks, const IncrementPlan& plan,
                      const std::string& checkpoint) {
  const BackupOptions& options = run.options();
  const vm::PullJobOptions job_options{run.run_id(), options.scratch, options.quiesce, options.quiesce_timeout,
                                       checkpoint,   plan.since()};
  const std::unique_ptr<vm::PullJob> job = vm::PullJob::begin(domain, disks, job_options, run.state());
  const std::unique_ptr<ChildProcess> command = start_command(run, job->exports());
  keep_texts_and_firmware(run, job->domain(), domain.describe());
  add_disks(run, job->exports(), plan, !checkpoint.empty());
  copy_watched(run, *job, plan);
  wait_for_command(run, *job, command.get());
  job->end();
  for (const std::string& line : job->warnings()) run.warn(line);

  set::Manifest manifest;
  manifest.vm_name = domain.name();
  manifest.vm_uuid = domain.uuid();
  const double frozen = std::chrono::duration<double>(job->frozen_for()).count();
  manifest.consistency = frozen > 0 ? "filesystem" : "crash";
  manifest.checkpoint = checkpoint;
  manifest.parent = plan.parent;
  if (plan.parent) manifest.kind = set::kIncrement;
  if (options.chain != ChainPart::none) job->entrust_checkpoint();
  JobReport report = run.finish(std::move(manifest), frozen);
  job->keep_checkpoint();
  return report;
}

void settle(const BackupRun& run, vm::Domain& domain, const set::CheckpointLedger& ledger) {
  const VmOnTarget vm{run.partial()->vm(), run.options().vm, run.run_id(), [&](const std::string& line) { run.note(line); }};
  settle_checkpoints(vm, domain, domain.describe().disks, ledger);
}

/// The backup is there: what goes wrong now is the next run's.
void settle_quietly(const BackupRun& run, vm::Domain& domain, const set::CheckpointLedger& ledger) {
  try {
    settle(run, domain, ledger);
  } catch (const Fault& fault) {
    run.note(fault.what());
  }
}

JobReport backup_running_domain(BackupRun& run, vm::Domain domain) {
  const BackupOptions& options = run.options();
  const vm::DomainDescription description = domain.describe();
  std::vector<vm::DomainDisk> disks = vm::select_disks(description, options.disks, options.exclude);
  refuse_plaintext_of_encrypted(disks, options);
  if (options.stopped_disks) name_drbd_volumes(disks);
  run.open_set();
  for (const std::string& line : vm::sweep_leftovers(domain, options.scratch)) run.note(line);
  run.throw_if_stopped();

  IncrementPlan plan = plan_full(disks, "");
  std::optional<set::CheckpointLedger> ledger;
  std::optional<LedgerEntry> entry;
  if (options.chain != ChainPart::none) {
    ledger.emplace(run.partial()->root(), run.partial()->vm());
    settle(run, domain, *ledger);
    if (options.chain == ChainPart::increment) plan = plan_increment(run, domain, disks, *ledger);
    entry.emplace(*ledger, run);
  }
  if (options.named_parent) plan = plan_named_increment(run, domain, disks);
  if (plan.proven && plan.proven->slot()) run.transfer().share_slot(*plan.proven->slot());
  JobReport report = copy_in_job(run, domain, disks, plan, entry ? entry->checkpoint() : options.checkpoint);
  if (entry) entry->keep();
  if (ledger) settle_quietly(run, domain, *ledger);
  if (options.named_parent && plan.parent) drop_parent_checkpoint(run, domain, description.disks);
  return report;
}

}  // namespace

void take_source_secrets(BackupOptions& options) {
  if (!options.stopped_disks || options.source_secrets.empty()) return;
  const std::optional<vm::Domain> domain = find_domain(options);
  if (domain && domain->state().active()) return;
  const vm::Connection connection(options.connect);
  for (const std::string& uuid : options.source_secrets) {
    std::string why_not;
    const std::optional<crypto::Secret> value = vm::secret_value(connection.get(), {uuid}, why_not);
    if (!value) throw Fault(FaultKind::wrong_key, "libvirt secret " + uuid + ": " + why_not);
    options.source_keys.push_back(Passphrase::from_bytes(value->bytes().data(), value->bytes().size()));
  }
}

JobReport backup_domain(BackupRun& run) {
  const BackupOptions& options = run.options();
  std::optional<vm::Domain> domain = find_domain(options);
  if (domain && domain->state().active()) return backup_running_domain(run, std::move(*domain));
  return options.stopped_disks ? backup_disk_paths(run) : backup_stopped_domain(run, std::move(*domain));
}

}  // namespace nasbackup
