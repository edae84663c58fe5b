// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a watcher sees of a run, and how it takes over when the run is dead.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace nasbackup {

struct LifelineState;

/// A page of memory shared by a job and whoever watches over it, also across fork(): what the job holds of a guest,
/// how far it is, and since when a call on the target has not come back. It also owns the run's identity: an id and a
/// lock file under /run/nasbackup that says "alive" for as long as any process that inherited it lives.
/// Create it before fork(). Its functions may be called from any thread or process that has it.
class Lifeline {
 public:
  Lifeline();
  ~Lifeline();
  Lifeline(const Lifeline&) = delete;
  Lifeline& operator=(const Lifeline&) = delete;

  /// The random id of this run: 16 hexadecimal digits. Socket, scratch files and partial set carry it.
  std::string run_id() const;
  /// For how long the oldest call on the target that has not come back has been under way; zero when there is none.
  std::chrono::nanoseconds target_stalled_for() const noexcept;
  /// True while a guest is frozen, or has our backup job or a checkpoint of which no backup is published yet.
  bool holds_guest() const noexcept;
  /// True while there is a partial set of this run on the target, and for good when it could not be removed.
  bool has_partial_set() const noexcept;
  /// True once a set of this run is published: whatever fails then, the set is there.
  bool has_published_set() const noexcept;
  /// Thaws the guest and ends our backup job, as far as the job says that it holds them. For the watcher, once the
  /// job's process is dead or given up. Tries until `deadline` from now; returns what is still held, empty when nothing.
  std::string release_guest(std::chrono::seconds deadline) noexcept;
  /// For the watcher, when it knows that the job's process is gone, with all that it had open: the job need not be ended with
  /// care.
  void process_is_gone() noexcept;
  /// Gives the run's lock up although a process that hangs in the kernel still has it open, and its mount point.
  void abandon() noexcept;

  LifelineState& state() const noexcept { return *state_; }

 private:
  LifelineState* state_ = nullptr;
  int owner_pid_ = 0;
};

/// How far a job is. Bytes of guest data unless it says otherwise.
struct Progress {
  std::string phase;               ///< "starting", "copying", "flushing", "publishing", …
  std::uint64_t total_bytes = 0;   ///< virtual size of all disks of the job
  std::uint64_t done_bytes = 0;    ///< read or known to be zero
  std::uint64_t read_bytes = 0;    ///< read from the source as data
  std::uint64_t stored_bytes = 0;  ///< written to the target (file bytes)
};

/// Progress of the job that runs on this lifeline; for the watcher.
Progress progress_of(const Lifeline& lifeline);

}  // namespace nasbackup
