// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Removes what dead runs left in DIR/VM. Called by the holder of the target lock: a partial set is only ever made under
// that lock, so another run's partial set is a dead run's, unless the run is alive on this host (it has lost its lock and
// is about to notice). Used by one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "engine/set/directory.h"

namespace nasbackup::set {

inline constexpr char kPartialPrefix[] = ".partial-";
inline constexpr char kDeletingPrefix[] = ".deleting-";

struct SweepOptions {
  std::string run_id;  ///< our own, never swept
  std::string run_directory;
  std::chrono::nanoseconds now_on_target{0};  ///< by the target's clock (TargetLock::now_on_target)
  std::chrono::milliseconds stale_after{0};   ///< for what cannot be judged by a run lock of this host
  std::function<void(const std::string&)> note;
};

/// True when there is something that might be a dead run's.
bool has_leftovers(const Directory& vm, const std::string& own_run_id);

/// What cannot be removed stays for the next run and is noted; it never makes this run fail.
void sweep(const Directory& vm, const SweepOptions& options);

/// Takes a directory away in two steps, rename to `.deleting-<run id>` and removal: a rename of a dead or hung run that the
/// NAS carries out late (publishing) finds no directory any more, instead of publishing one with files missing.
/// Returns an errno, 0 when nothing is left.
int remove_aside(const Directory& vm, const std::string& name, const std::string& run_id) noexcept;

}  // namespace nasbackup::set
