// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How a run marks what it leaves on this host, and how the next run tells the marks of a dead run from a live one's.
// A thing is ours only if its name carries a run id; it is a leftover only if that run's lock is free.
// Thread-safety: functions without state.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nasbackup::vm {

/// Lock files (run-<id>.lock) and private socket directories (<id>/) of the runs on this host.
inline constexpr const char* kRunDirectory = "/run/nasbackup";

std::string socket_name(std::string_view run_id);                            ///< nasbackup-<id>.sock
std::string scratch_name(std::string_view run_id, std::string_view target);  ///< nasbackup-<id>-<target>.scratch

/// True for 16 lower case hexadecimal digits.
bool is_run_id(std::string_view text) noexcept;
/// The run id in the base name of a socket or scratch file of ours; nothing for any other name.
std::optional<std::string> run_id_in(std::string_view path);

/// False when nobody holds the lock of that run (also when the lock file is missing). In doubt a run is alive.
bool run_is_alive(std::string_view run_id, const std::string& run_directory = kRunDirectory);

}  // namespace nasbackup::vm
