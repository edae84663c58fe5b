// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See priority.h; the numbers are those of ioprio_set(2), for which there is no header.
#include "tools/priority.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace nasbackup::tools {

namespace {

constexpr int kIoprioWhoProcess = 1;
constexpr int kClassShift = 13;
constexpr int kClassBestEffort = 2, kClassIdle = 3;
constexpr int kLowestLevel = 7;

int io_class() noexcept { return static_cast<int>(::syscall(SYS_ioprio_get, kIoprioWhoProcess, 0)) >> kClassShift; }

bool lower_io(bool idle) noexcept {
  if (io_class() == kClassIdle) return true;
  const int value = idle ? kClassIdle << kClassShift : (kClassBestEffort << kClassShift) | kLowestLevel;
  return ::syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, value) == 0;
}

}  // namespace

std::string lower_priority(Priority priority) noexcept {
  if (priority == Priority::normal) return {};
  const bool idle = priority == Priority::idle;
  if (!lower_io(idle)) return std::string("--priority: ioprio_set: ") + std::strerror(errno);
  errno = 0;
  const int nice = ::getpriority(PRIO_PROCESS, 0);
  if (::setpriority(PRIO_PROCESS, 0, std::max(nice, idle ? 19 : 10)) != 0)
    return std::string("--priority: setpriority: ") + std::strerror(errno);
  return {};
}

}  // namespace nasbackup::tools
