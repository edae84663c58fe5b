// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How much a run yields to others at the disks and at the processors. A function on the calling process.
#pragma once

#include <string>

namespace nasbackup::tools {

enum class Priority { normal, low, idle };

/// Lowers the calling thread and all that it starts from now on; never raises. `low`: the last of the best-effort I/O levels and
/// nice 10; `idle`: disks only when nobody else wants them, which may be never, and nice 19. Returns what could not be done;
/// empty: nothing.
std::string lower_priority(Priority priority) noexcept;

}  // namespace nasbackup::tools
