// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which runs of this host are alive. A run's Lifeline holds flock on RUN_DIRECTORY/run-<id>.lock; the kernel drops that
// lock when the last process of the run is gone, however it ended. No state; safe from any thread.
#pragma once

#include <string>
#include <string_view>

namespace nasbackup {

/// Where the locks of this host lie; tests hand in a directory of their own.
inline constexpr char kRunDirectory[] = "/run/nasbackup";

/// 16 lower-case hexadecimal digits.
bool is_run_id(std::string_view text) noexcept;

/// True while a process of that run holds its lock. A shared lock is tried and dropped at once, so two askers never take
/// each other for the run; a Lifeline that is just being made must therefore wait for its lock, not only try. What cannot
/// be found out counts as alive.
bool run_is_alive(std::string_view run_id, const std::string& run_directory = kRunDirectory);

/// Makes the run directory, mode 0700, when it is not there. Fault(failed) when it is somebody else's or open to others.
void make_run_directory(const std::string& run_directory = kRunDirectory);

}  // namespace nasbackup
