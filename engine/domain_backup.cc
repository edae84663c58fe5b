// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The backup of a running domain; see domain_backup.h. One that is shut off: stopped_domain_backup.cc.
#include "engine/domain_backup.h"

#include "engine/command_in_job.h"
#include "engine/disk_paths_backup.h"
#include "engine/domain_files.h"
#include "engine/domain_watch.h"
#include "engine/stopped_domain_backup.h"
#include "engine/vm/backup_job.h"
#include "engine/vm/leftovers.h"

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

void add_disks(BackupRun& run, const std::vector<vm::JobExport>& exports) {
  for (const vm::JobExport& disk_export : exports) run.add_disk(manifest_entry(disk_export.disk), {disk_export.uri, "raw"});
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
void copy_watched(BackupRun& run, vm::PullJob& job) {
  bool lifted = false;
  DomainWatch watch(run.transfer(), [&] { look_at(job, run, lifted); });
  try {
    run.copy_disks();
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

JobReport backup_running_domain(BackupRun& run, vm::Domain domain) {
  const BackupOptions& options = run.options();
  const vm::DomainDescription description = domain.describe();
  const std::vector<vm::DomainDisk> disks = vm::select_disks(description, options.disks, options.exclude);
  refuse_plaintext_of_encrypted(disks, options);
  run.open_set();
  for (const std::string& line : vm::sweep_leftovers(domain, options.scratch)) run.note(line);
  run.throw_if_stopped();

  const vm::PullJobOptions job_options{run.run_id(), options.scratch, options.quiesce, options.quiesce_timeout,
                                       options.checkpoint};
  const std::unique_ptr<vm::PullJob> job = vm::PullJob::begin(domain, disks, job_options, run.state());
  const std::unique_ptr<ChildProcess> command = start_command(run, job->exports());
  keep_texts_and_firmware(run, job->domain(), description);
  add_disks(run, job->exports());
  copy_watched(run, *job);
  wait_for_command(run, *job, command.get());
  job->end();
  for (const std::string& line : job->warnings()) run.warn(line);

  set::Manifest manifest;
  manifest.vm_name = domain.name();
  manifest.vm_uuid = domain.uuid();
  const double frozen = std::chrono::duration<double>(job->frozen_for()).count();
  manifest.consistency = frozen > 0 ? "filesystem" : "crash";
  JobReport report = run.finish(std::move(manifest), frozen);
  job->keep_checkpoint();
  return report;
}

}  // namespace

JobReport backup_domain(BackupRun& run) {
  const BackupOptions& options = run.options();
  std::optional<vm::Domain> domain = find_domain(options);
  if (domain && domain->state().active()) return backup_running_domain(run, std::move(*domain));
  return options.stopped_disks ? backup_disk_paths(run) : backup_stopped_domain(run, std::move(*domain));
}

}  // namespace nasbackup
