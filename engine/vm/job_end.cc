// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The end of a pull job is virDomainAbortJob; libvirt then removes the scratch files and QEMU the socket.
#include "engine/vm/job_end.h"

#include <algorithm>
#include <optional>
#include <thread>

#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/vm/backup_xml.h"
#include "engine/vm/run_names.h"

namespace nasbackup::vm {
namespace {

/// The job of a small VM has ended a few milliseconds after it was asked to; the waits grow from here to there.
constexpr std::chrono::milliseconds kAskAgainAfter{1};
constexpr std::chrono::milliseconds kAskEvery{20};
constexpr unsigned long kFullBelow = 4ul << 20;  ///< QEMU allocates scratch clusters of 64 KiB and tables: this is "full"

std::optional<BackupDescription> own_job(const Domain& domain, const std::string& socket) {
  const std::optional<std::string> xml = domain.backup_job();
  if (!xml) return std::nullopt;
  BackupDescription job = parse_backup(*xml);
  if (job.socket != socket) return std::nullopt;
  return job;
}

/// What a client left behind by closing its connection QEMU takes note of at the latest between two answers: see Handshake.
void let_qemu_notice_what_is_closed(const Domain& domain) noexcept {
  for (int question = 0; question < 2; ++question) domain.running_job();
}

/// A job that libvirt is about to begin has no XML yet. It may be ours: its caller can have died inside the call.
bool some_job_is_beginning(const Domain& domain) {
  return !domain.backup_job() && domain.running_job() == VIR_DOMAIN_JOB_OPERATION_BACKUP;
}

bool some_scratch_is_full(const BackupDescription& job) {
  for (const BackupDisk& disk : job.disks) {
    const std::string directory = disk.scratch.substr(0, disk.scratch.rfind('/') + 1);
    struct statvfs room {};
    if (!directory.empty() && statvfs(directory.c_str(), &room) == 0 && room.f_bavail * room.f_frsize < kFullBelow) return true;
  }
  return false;
}

void after_the_job(const Domain& domain, const BackupDescription& job, bool was_full) {
  for (const BackupDisk& disk : job.disks) {
    if (run_id_in(disk.scratch)) unlink(disk.scratch.c_str());
  }
  if (was_full && domain.state().io_error) virDomainResume(domain.get());
}

}  // namespace

bool can_end_job(LifelineState& state) noexcept {
  state.job_ends.store(true);
  return monotonic_ns() >= job_can_end_at(state);
}

bool wait_while_job_begins(const Domain& domain, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (some_job_is_beginning(domain)) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kAskEvery);
  }
  return true;
}

bool abort_own_job(Domain& domain, const std::string& socket, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::optional<BackupDescription> seen;
  bool was_full = false;
  for (auto wait = kAskAgainAfter;; wait = std::min(2 * wait, kAskEvery)) {
    const std::optional<BackupDescription> job = own_job(domain, socket);
    if (!job && !some_job_is_beginning(domain)) break;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    if (job) {
      was_full = was_full || some_scratch_is_full(*job);
      if (!seen) let_qemu_notice_what_is_closed(domain);
      virDomainAbortJob(domain.get());  // its errors do not matter: what counts is whether the job is still there
      seen = job;
    }
    std::this_thread::sleep_for(wait);
  }
  if (seen) after_the_job(domain, *seen, was_full);
  return true;
}

}  // namespace nasbackup::vm
