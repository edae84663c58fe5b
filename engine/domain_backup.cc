// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The backup of a running domain; see domain_backup.h.
#include "engine/domain_backup.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "engine/command_in_job.h"
#include "engine/vm/backup_job.h"
#include "engine/vm/domain_texts.h"
#include "engine/vm/leftovers.h"

namespace nasbackup {

namespace {

/// Firmware variables take some hundred KiB, the state of a TPM less: more than this is something else.
constexpr std::uintmax_t kMostFirmwareState = 64u << 20;

void refuse_plaintext_of_encrypted(const std::vector<vm::DomainDisk>& disks, bool allowed) {
  if (allowed) return;
  for (const vm::DomainDisk& disk : disks)
    if (disk.encrypted)
      throw Fault(FaultKind::source,
                  disk.target + ": is encrypted, and the backup would not be; write -e FILE, --allow-plaintext, or --exclude " +
                      disk.target);
}

vm::Domain find_active_domain(const BackupOptions& options) {
  vm::Domain domain = vm::Domain::by_name(options.connect, options.vm);
  if (!domain.state().active())
    throw Fault(FaultKind::source, options.vm + ": is shut off; start it: only a running or paused VM can be backed up");
  return domain;
}

/// Looks at the job while it is copied from, and fails the transfer when it cannot go on. A thread of its own, because libvirt's
/// calls block.
class GuestWatch {
 public:
  GuestWatch(vm::PullJob& job, BackupRun& run)
      : job_(job), run_(run), thread_([this](const std::stop_token& stop) { watch(stop); }) {}

  /// Ends the watch. Throws what it found, if anything.
  void end() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
    if (found_) std::rethrow_exception(found_);
  }
  bool lifted() const noexcept { return lifted_; }

 private:
  void watch(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, stop, std::chrono::milliseconds(250), [&] { return stop.stop_requested(); })) {
      try {
        look();
      } catch (...) {
        found_ = std::current_exception();
        run_.transfer().fail(found_);
        return;
      }
    }
  }
  void look() {
    if (!job_.check().scratch_low || lifted_) return;
    lifted_ = true;
    run_.transfer().lift_limit();
    if (run_.options().limit) run_.note("scratch space is low: the rate limit is lifted");
  }

  vm::PullJob& job_;
  BackupRun& run_;
  std::exception_ptr found_;
  std::atomic<bool> lifted_{false};
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it must not run before the rest is there
};

std::optional<std::string> read_small_file(const std::filesystem::path& path, std::string& why_not) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return why_not = error.message(), std::nullopt;
  if (size > kMostFirmwareState) return why_not = "larger than 64 MiB", std::nullopt;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file || content.str().size() != size) return why_not = "cannot be read", std::nullopt;
  return content.str();
}

void keep_file(BackupRun& run, const std::filesystem::path& path, const std::string& name) {
  std::string why_not;
  if (const auto content = read_small_file(path, why_not))
    run.add_secret_file(name, *content);
  else
    run.warn(path.string() + ": not in the backup: " + why_not);
}

/// The TPM's state directory holds a few files, by the emulator's names, below a directory for the TPM's version.
void keep_tpm_state(BackupRun& run, const std::string& directory) {
  std::error_code error;
  bool any = false;
  for (std::filesystem::recursive_directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (!at->is_regular_file(ignored) || at->path().filename() == ".lock") continue;
    keep_file(run, at->path(), "tpm." + at->path().filename().string());
    any = true;
  }
  if (error || !any)
    run.warn(directory + ": the TPM's state is not in the backup: " + (error ? error.message() : "no files there"));
}

void keep_texts_and_firmware(BackupRun& run, vm::PullJob& job, const vm::DomainDescription& description) {
  for (const vm::DomainText& text : vm::domain_texts(job.domain())) run.add_file(text.file_name, text.content);
  if (!description.nvram.empty()) keep_file(run, description.nvram, "nvram.fd");
  if (!description.tpm_state.empty()) keep_tpm_state(run, description.tpm_state);
}

void add_disks(BackupRun& run, const std::vector<vm::JobExport>& exports) {
  for (const vm::JobExport& disk_export : exports) {
    const vm::DomainDisk& disk = disk_export.disk;
    set::ManifestDisk entry;
    entry.name = disk.target;
    entry.id = disk.id;
    entry.source = disk.source;
    entry.source_type = disk.type;
    entry.serial = disk.serial;
    entry.bus = disk.bus;
    entry.order = disk.position;
    run.add_disk(std::move(entry), {disk_export.uri, "raw"});
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

/// Copies while the watch looks on. A reader often learns first that the job has ended, but only the job knows why.
void copy_watched(BackupRun& run, vm::PullJob& job) {
  GuestWatch watch(job, run);
  try {
    run.copy_disks();
  } catch (const Fault& fault) {
    watch.end();
    if (fault.kind() == FaultKind::source) job.check();
    throw;
  }
  watch.end();
}

}  // namespace

JobReport backup_domain(BackupRun& run) {
  const BackupOptions& options = run.options();
  vm::Domain domain = find_active_domain(options);
  const vm::DomainDescription description = domain.describe();
  const std::vector<vm::DomainDisk> disks = vm::select_disks(description, options.disks, options.exclude);
  refuse_plaintext_of_encrypted(disks, options.allow_plaintext || options.encrypt);
  run.open_set();
  for (const std::string& line : vm::sweep_leftovers(domain, options.scratch)) run.note(line);
  run.throw_if_stopped();

  const vm::PullJobOptions job_options{run.run_id(), options.scratch, options.quiesce, options.quiesce_timeout};
  const std::unique_ptr<vm::PullJob> job = vm::PullJob::begin(domain, disks, job_options, run.state());
  const std::unique_ptr<ChildProcess> command = start_command(run, job->exports());
  keep_texts_and_firmware(run, *job, description);
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
  return run.finish(std::move(manifest), frozen);
}

}  // namespace nasbackup
