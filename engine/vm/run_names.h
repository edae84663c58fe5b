// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How a run marks what it leaves on this host. A thing is ours only if its name carries a run id; it is a leftover only if that
// run's lock is free (run_lock.h).
// Thread-safety: functions without state.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nasbackup::vm {

std::string socket_name(std::string_view run_id);                            ///< nasbackup-<id>.sock
std::string scratch_name(std::string_view run_id, std::string_view target);  ///< nasbackup-<id>-<target>.scratch

/// The run id in the base name of a socket or scratch file of ours; nothing for any other name.
std::optional<std::string> run_id_in(std::string_view path);

}  // namespace nasbackup::vm
