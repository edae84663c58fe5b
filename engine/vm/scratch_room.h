// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// When is a job's scratch space too small? The policy alone: numbers in, verdict out.
//
// Why it matters: while a pull job runs, each first write of the guest to a place makes QEMU copy the old data into the
// scratch file. When that copy fails, QEMU fails the guest's write (on-cbw-error=break-guest-write; libvirt offers no
// other choice), so a full scratch directory is an I/O error in the guest. The job must end before that.
// Pure; thread-safety: functions without state.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace nasbackup::vm {

struct ScratchRoom {
  std::uint64_t total_bytes = 0;       ///< of the file system
  std::uint64_t free_bytes = 0;        ///< of it, for QEMU
  std::uint64_t used_bytes = 0;        ///< put aside by the job so far (disk_temp_used)
  std::uint64_t worst_case_bytes = 0;  ///< what the job needs when the guest writes every block of its disks once
};

enum class ScratchVerdict {
  ample,    ///< nothing to do
  low,      ///< read as fast as the storage allows: lift the limiter
  give_up,  ///< abort the job now
};

/// Below this the limiter is lifted: the larger of 5 % of the file system and 256 MiB.
std::uint64_t low_mark(std::uint64_t total_bytes) noexcept;
/// Below this the job is aborted: half of low_mark. The other half is what the guest may still write meanwhile.
std::uint64_t give_up_mark(std::uint64_t total_bytes) noexcept;
/// Scratch bytes a disk of this size needs at most: all of its data and the qcow2 tables around them.
std::uint64_t worst_case_scratch(std::uint64_t virtual_size) noexcept;

/// How long it may take from the look at the room to QEMU's end of the job: a look every 25 ms, an abort measured at
/// 10 to 75 ms, and a rest for a busy host.
inline constexpr std::chrono::milliseconds kAbortTime{200};

/// `fill_rate`: bytes a second by which the free space shrinks at the moment. Room for the job's worst case is always
/// ample, however small the file system; otherwise the marks count, and a guest that would fill the rest within
/// kAbortTime counts as having done so.
ScratchVerdict judge_scratch(const ScratchRoom& room, std::uint64_t fill_rate) noexcept;

/// Why a job must not begin with this room; empty: it may. Stricter than the watch: a job that would be given up after
/// the guest's next few writes is not worth beginning, so at least 256 MiB must be free (or the worst case).
std::string scratch_obstacle(const ScratchRoom& room, const std::string& directory);

/// "12.3 MiB", for messages.
std::string in_mib(std::uint64_t bytes);

}  // namespace nasbackup::vm
