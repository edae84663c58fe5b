// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Run lock; see run_lock.h.
#include "engine/io/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"

namespace nasbackup {

bool is_run_id(std::string_view text) noexcept {
  return text.size() == 16 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool run_is_alive(std::string_view run_id, const std::string& run_directory) {
  if (!is_run_id(run_id)) return false;  // no run has such a name
  const auto path = run_directory + "/run-" + std::string(run_id) + ".lock";
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) return errno != ENOENT;
  return ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0;  // closing the descriptor drops it
}

void make_run_directory(const std::string& run_directory) {
  if (::mkdir(run_directory.c_str(), 0700) != 0 && errno != EEXIST) {
    throw Fault(FaultKind::failed, run_directory + ": cannot make the directory: " + std::strerror(errno));
  }
  struct stat status {};
  if (::lstat(run_directory.c_str(), &status) != 0) {
    throw Fault(FaultKind::failed, run_directory + ": cannot look at it: " + std::strerror(errno));
  }
  // Who can write here can make a living run look dead.
  const bool closed = (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || !closed) {
    throw Fault(FaultKind::failed, run_directory + ": must be a directory that only its owner, this user, can write");
  }
}

}  // namespace nasbackup
