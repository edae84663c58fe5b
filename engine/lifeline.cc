// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The page between a job and its watcher, and the lock that says that the run is alive (nasbackup.h, Lifeline).
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <new>
#include <string>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/run_lock.h"
#include "engine/mount_point.h"
#include "engine/nasbackup.h"
#include "engine/translate_faults.h"
#include "engine/vm/guest_hold.h"

namespace nasbackup {

namespace {

LifelineState* map_state() {
  void* page = ::mmap(nullptr, sizeof(LifelineState), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw Fault(FaultKind::failed, std::string("memory shared with the watcher: ") + std::strerror(errno));
  return new (page) LifelineState;
}

std::string random_id() {
  unsigned char bytes[8];
  if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    throw Fault(FaultKind::failed, std::string("getrandom: ") + std::strerror(errno));
  std::string id;
  for (const unsigned char byte : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    id += kDigits[byte >> 4];
    id += kDigits[byte & 15];
  }
  return id;
}

std::string lock_path(const LifelineState& state) { return std::string(kRunDirectory) + "/run-" + state.run_id.data() + ".lock"; }

// Lock files of dead runs. Each is removed under its own lock, so that a run that has just made its file either has the lock by
// now, or finds its file gone and makes it again.
void remove_dead_locks() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kRunDirectory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("run-") || !name.ends_with(".lock")) continue;
    const FileDescriptor file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (file && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(entry.path().c_str());
  }
}

/// A new lock file, locked; nothing when somebody removed it in between.
FileDescriptor make_lock(const std::string& path) {
  FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) throw Fault(FaultKind::failed, path + ": create: " + std::strerror(errno));
  // Waits: whoever asks whether the run is alive holds the lock for a moment.
  while (::flock(file.get(), LOCK_EX) != 0)
    if (errno != EINTR) throw Fault(FaultKind::failed, path + ": lock: " + std::strerror(errno));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) throw Fault(FaultKind::failed, path + ": stat: " + std::strerror(errno));
  return info.st_nlink > 0 ? std::move(file) : FileDescriptor();
}

// Only root has /run/nasbackup. Without it a run has no lock, which only a backup needs (and says).
int take_run_lock(const LifelineState& state) {
  if (::geteuid() != 0) return -1;
  make_run_directory();
  remove_dead_locks();
  FileDescriptor lock;
  while (!lock) lock = make_lock(lock_path(state));
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::write(lock.get(), pid.data(), pid.size()) < 0)
    throw Fault(FaultKind::failed, lock_path(state) + ": write: " + std::strerror(errno));
  return lock.release();
}

}  // namespace

Lifeline::Lifeline() {
  translate_faults([this] {
    state_ = map_state();
    const std::string id = random_id();
    std::copy(id.begin(), id.end(), state_->run_id.begin());
    state_->lock_fd = take_run_lock(*state_);
    owner_pid_ = ::getpid();
  });
}

// The process that made the lifeline outlives the others, so it is the one that takes the lock file away; a forked copy only
// lets go of what it has open.
Lifeline::~Lifeline() {
  if (state_->lock_fd >= 0) {
    if (::getpid() == owner_pid_) {
      remove_mount_point(run_id());
      ::unlink(lock_path(*state_).c_str());
    }
    ::close(state_->lock_fd);
  }
  ::munmap(state_, sizeof(LifelineState));
}

std::string Lifeline::run_id() const { return state_->run_id.data(); }

std::chrono::nanoseconds Lifeline::target_stalled_for() const noexcept {
  std::int64_t oldest = 0;
  const std::int64_t now = monotonic_ns();
  for (const auto& slot : state_->target_calls)
    if (const std::int64_t since = slot.load(); since != 0) oldest = std::max(oldest, now - since);
  return std::chrono::nanoseconds(oldest);
}

bool Lifeline::holds_guest() const noexcept { return state_->guest_frozen || state_->guest_job || state_->checkpoint; }

bool Lifeline::has_partial_set() const noexcept { return state_->partial_set; }

bool Lifeline::has_published_set() const noexcept { return state_->published_set; }

std::string Lifeline::release_guest(std::chrono::seconds deadline) noexcept { return vm::release(*state_, deadline); }

void Lifeline::process_is_gone() noexcept { state_->handshakes.store(0); }

// flock belongs to the open file, not to the process: unlocking it here unlocks it for the process that hangs too.
void Lifeline::abandon() noexcept {
  if (state_->lock_fd < 0) return;
  remove_mount_point(run_id());
  ::unlink(lock_path(*state_).c_str());
  ::flock(state_->lock_fd, LOCK_UN);
}

Progress progress_of(const Lifeline& lifeline) {
  const LifelineState& state = lifeline.state();
  return {state.phase.load(), state.total_bytes, state.done_bytes, state.read_bytes, state.stored_bytes};
}

}  // namespace nasbackup
