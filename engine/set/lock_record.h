// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The record in a target lock: who holds it, and how often it was refreshed. Its length is fixed, so that a refresh is one
// write over the same bytes. Format: docs/formats/set.md. Plain values; safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nasbackup::set {

struct LockRecord {
  std::string run_id;
  std::string host;           ///< for people; two hosts may have the same name
  std::string boot_id;        ///< of the kernel: containers of one machine share it
  std::string run_directory;  ///< "<device>:<inode>" of the directory with the run locks: containers do not share it
  std::uint64_t pid = 0;
  std::uint64_t start_time = 0;  ///< of the process, in ticks since boot (/proc/PID/stat, field 22)
  std::string since;             ///< RFC 3339, by the clock of `host`
  std::uint64_t beat = 0;        ///< one more at each refresh

  /// True when `run_directory`'s run locks on this machine can say whether that run is alive.
  bool is_from_the_place_of(const LockRecord& other) const noexcept {
    return boot_id == other.boot_id && run_directory == other.run_directory;
  }
  /// "run 0123456789abcdef on host nas1 (pid 42) since …": for messages.
  std::string holder() const;
};

constexpr std::size_t kLockRecordSize = 1024;

/// The record of this process. Throws Fault(failed) when the host does not say who it is.
LockRecord own_lock_record(const std::string& run_id, const std::string& run_directory);
/// kLockRecordSize bytes.
std::string write_lock_record(const LockRecord& record);
/// Nothing when the bytes are no record (torn, hostile, of a later version).
std::optional<LockRecord> read_lock_record(std::string_view bytes);

}  // namespace nasbackup::set
