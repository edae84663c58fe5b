// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Target lock; see target_lock.h.
#include "engine/set/target_lock.h"

#include <algorithm>
#include <thread>

#include "engine/io/fault.h"
#include "engine/io/run_lock.h"
#include "engine/set/small_file.h"
#include "engine/set/text.h"

namespace nasbackup::set {

namespace {

using std::chrono::milliseconds;

/// More tries than there can be dead holders; each failing one means that somebody else was quicker.
constexpr int kTries = 50;

/// An NFS client keeps a removed file that somebody has open under this name; it is no holder.
bool is_nfs_remnant(const std::string& name) noexcept { return name.starts_with(".nfs"); }

std::string read_record(const Directory& lock, const std::string& holder, std::int64_t* modified_ns) {
  const auto file = read_small_file(lock, holder, 4 * kLockRecordSize);
  if (!file) return {};
  *modified_ns = file->modified_ns;
  return file->content;
}

/// The holder's name for messages, also when its record cannot be read.
std::string holder_text(const std::optional<LockRecord>& record, const std::string& file_name) {
  return record ? record->holder() : "run " + plain_text(file_name, 40) + " (its record cannot be read)";
}

}  // namespace

void sleep_unless_stopped(milliseconds time, const std::stop_token& stop) {
  const auto end = std::chrono::steady_clock::now() + time;
  for (;;) {
    if (stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped while waiting for the target");
    const auto left = std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now());
    if (left <= milliseconds::zero()) return;
    std::this_thread::sleep_for(std::min(left, milliseconds(100)));
  }
}

TargetLock::TargetLock(const Directory& directory, LockOptions options)
    : directory_(directory),
      options_(std::move(options)),
      prepared_name_(kPreparedLockPrefix + options_.run_id),
      record_(own_lock_record(options_.run_id, options_.run_directory)) {
  try {
    prepare();
    take();
  } catch (...) {
    try_remove_flat_tree(directory_, prepared_name_);
    throw;
  }
}

TargetLock::~TargetLock() { give_up(); }

void TargetLock::note(const std::string& line) const {
  if (options_.note) options_.note(line);
}

void TargetLock::prepare() {
  if (!directory_.make_child(prepared_name_)) {
    throw Fault(FaultKind::locked, directory_.path() + ": locked by run " + options_.run_id + ", which is this one");
  }
  const auto prepared = directory_.open_child(prepared_name_);
  write_new_file(prepared, options_.run_id, write_lock_record(record_));
  read_record(prepared, options_.run_id, &now_on_target_);
}

void TargetLock::take() {
  for (int attempt = 0; attempt < kTries; ++attempt) {
    if (move_into_place()) return;
    put_out_stale_holders();
    // Some file systems do not rename over an empty directory. A full one, somebody else's, stays.
    directory_.try_remove_directory(kLockName);
    if (attempt > 2) sleep_unless_stopped(milliseconds(100), options_.stop);
  }
  throw Fault(FaultKind::locked, directory_.path_of(kLockName) + ": cannot be taken, although nobody holds it");
}

bool TargetLock::move_into_place() {
  const int error = directory_.try_rename(prepared_name_, kLockName);
  if (error == 0) return true;
  if (error == EEXIST || error == ENOTEMPTY) return false;
  // NFS repeats a request whose answer was lost, and answers the repetition "no such name".
  const auto lock = directory_.find_child(kLockName);
  if (lock && lock->stat(options_.run_id)) return true;
  throw_target_errno(error, directory_.path_of(kLockName), "cannot take the lock");
}

void TargetLock::put_out_stale_holders() {
  const auto lock = directory_.find_child(kLockName);
  if (!lock) return;
  for (const auto& holder : lock->names()) {
    if (is_nfs_remnant(holder)) continue;
    judge(*lock, holder);
    const std::string aside = kStaleLockPrefix + plain_text(holder, 64);
    if (lock->try_rename(holder, directory_, aside) != 0) continue;  // another taker did it, or its owner gave it up
    directory_.try_remove_file(aside);
    note(directory_.path() + ": took over the lock of dead run " + plain_text(holder, 64));
  }
}

// The rule. A holder from this place (same boot, same directory of run locks) is dead when its run lock is free, at once.
// Of a holder from elsewhere we can only see whether it goes on refreshing. It is dead when both hold:
//   1. its record is older than `stale_after` (10 min). Both ends of that difference are mtimes that the target gave: its
//      last refresh, and our own record a moment ago. The hosts' clocks do not come in;
//   2. while we watch it (70 s, more than two refreshes) the record changes in no byte and no mtime. That is for targets
//      where the *client* sets the mtime (FUSE with a write-back cache, some CIFS mounts) and clocks differ: a clock may
//      then make a living holder look old, but not silent. The other way round, an mtime from the future, the lock stays
//      until that time plus 10 min, and the message says what to remove.
// A record that cannot be read is judged by the same two.
void TargetLock::judge(const Directory& lock, const std::string& holder) {
  std::int64_t modified_ns = 0;
  const std::string seen = read_record(lock, holder, &modified_ns);
  if (seen.empty() && !lock.stat(holder)) return;  // given up meanwhile
  const auto record = read_lock_record(seen);
  if (record && record->run_id == holder && record->is_from_the_place_of(record_)) {
    if (!run_is_alive(holder, options_.run_directory)) return;
    throw Fault(FaultKind::locked, directory_.path() + ": locked by " + record->holder());
  }
  const auto age = std::chrono::nanoseconds(now_on_target_ - modified_ns);
  if (age <= options_.stale_after) {
    throw Fault(FaultKind::locked, directory_.path() + ": locked by " + holder_text(record, holder) +
                                       "; if that host is dead, try again in 10 minutes or remove " + lock.path());
  }
  note(directory_.path() + ": the lock of " + holder_text(record, holder) + " looks dead; watching it for " +
       std::to_string(std::chrono::ceil<std::chrono::seconds>(options_.watch).count()) + " s");
  watch(lock, holder, seen);
}

void TargetLock::watch(const Directory& lock, const std::string& holder, const std::string& seen) {
  std::int64_t before = 0;
  std::int64_t after = 0;
  if (read_record(lock, holder, &before) == seen) {
    sleep_unless_stopped(options_.watch, options_.stop);
    // Opening the file anew makes an NFS client ask the server instead of its cache.
    const std::string now = read_record(lock, holder, &after);
    if ((now == seen && after == before) || !lock.stat(holder)) return;
  }
  throw Fault(FaultKind::locked, directory_.path() + ": locked by " + holder_text(read_lock_record(seen), holder) +
                                     ", which is alive (this host's or that host's clock is wrong)");
}

void TargetLock::refresh() {
  const std::lock_guard guard(mutex_);
  ++record_.beat;
  const auto lock = directory_.find_child(kLockName);
  if (lock && overwrite_file(*lock, options_.run_id, write_lock_record(record_))) return;
  throw Fault(FaultKind::locked, directory_.path() + ": this run's lock was taken away by another run");
}

void TargetLock::give_up() noexcept {
  try {
    const std::lock_guard guard(mutex_);
    const auto lock = directory_.find_child(kLockName);
    if (lock) lock->try_remove_file(options_.run_id);
  } catch (const std::exception&) {
    return;  // it goes stale
  }
  directory_.try_remove_directory(kLockName);  // refused when the next holder is already in it
}

}  // namespace nasbackup::set
