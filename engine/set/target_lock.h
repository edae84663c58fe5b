// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One run at a time for one VM on the target, whichever host it comes from, without flock or fcntl (NFS without lockd,
// CIFS with nobrl).
//
// The lock is the directory DIR/VM/.nasbackup.lock with one file in it, whose name is the holder's run id and whose
// content is its LockRecord. It is made whole beside it, under `.nasbackup.lock-<run id>`, and renamed into place: rename
// replaces an empty directory and refuses a full one, so exactly one of several takers gets it, a lock is never seen
// half-written, and an empty lock (a holder killed while it gave it up) is free. A stale holder is put out by renaming
// *its* file, by its name, to `.nasbackup.lock-stale-<its run id>`: a slow taker that judged an old holder cannot put out
// the new one, because that one's file has another name. (A single file made with O_EXCL has that race.)
//
// When a holder is stale, is written at judge() in the .cc and in docs/formats/set.md.
//
// refresh() may be called from another thread than the rest.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>

#include "engine/set/directory.h"
#include "engine/set/lock_record.h"

namespace nasbackup::set {

/// How often refresh() is to be called.
inline constexpr std::chrono::seconds kLockRefreshInterval{30};

struct LockOptions {
  std::string run_id;
  std::string run_directory;
  std::function<void(const std::string&)> note;  ///< a line for the user; may be empty
  std::stop_token stop;                          ///< ends the watching of a holder
  std::chrono::milliseconds stale_after{600'000};
  /// For how long a silent holder of another host is watched before it is put out: two refreshes and NFS's attribute cache.
  std::chrono::milliseconds watch{70'000};
};

class TargetLock {
 public:
  /// `directory` is DIR/VM and must outlive the lock. Throws Fault(locked) naming the holder, Fault(interrupted).
  TargetLock(const Directory& directory, LockOptions options);
  /// Gives the lock up, if it is still ours.
  ~TargetLock();
  TargetLock(const TargetLock&) = delete;
  TargetLock& operator=(const TargetLock&) = delete;

  /// Says that we are alive. Throws Fault(locked) when the lock is not ours any more (the run must end: somebody took us
  /// for dead) and another Fault when the target fails for the moment.
  void refresh();

  /// What time it was by the target's clock when the lock was taken.
  std::chrono::nanoseconds now_on_target() const noexcept { return std::chrono::nanoseconds(now_on_target_); }

 private:
  void prepare();
  void take();
  bool move_into_place();
  void put_out_stale_holders();
  void judge(const Directory& lock, const std::string& holder);
  void watch(const Directory& lock, const std::string& holder, const std::string& seen);
  void give_up() noexcept;
  void note(const std::string& line) const;

  const Directory& directory_;
  LockOptions options_;
  std::string prepared_name_;
  std::int64_t now_on_target_ = 0;  ///< mtime of our own record, made a moment ago: the target's clock, not ours
  std::mutex mutex_;                ///< guards record_
  LockRecord record_;
};

inline constexpr char kLockName[] = ".nasbackup.lock";
inline constexpr char kPreparedLockPrefix[] = ".nasbackup.lock-";
inline constexpr char kStaleLockPrefix[] = ".nasbackup.lock-stale-";

/// Sleeps, in short steps; throws Fault(interrupted) when a stop is asked for.
void sleep_unless_stopped(std::chrono::milliseconds time, const std::stop_token& stop);

}  // namespace nasbackup::set
