// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Vm claim; see vm_claim.h.
#include "engine/set/vm_claim.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/run_lock.h"
#include "engine/set/vm_name.h"

namespace nasbackup::set {

namespace {

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw Fault(FaultKind::failed, path + ": " + what + ": " + std::strerror(errno));
}

/// The others hold this lock for microseconds; ten seconds without it means a stopped process.
bool lock_within_ten_seconds(int fd) {
  using namespace std::chrono_literals;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK && errno != EINTR) return false;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

/// The claim file, open and locked; the one that has the name, not one that its owner has just removed.
FileDescriptor open_locked(const std::string& path) {
  for (;;) {
    FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    if (!fd) fail(path, "cannot open it");
    if (!lock_within_ten_seconds(fd.get())) fail(path, "cannot lock it");
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) fail(path, "cannot look at it");
    if (status.st_nlink != 0) return fd;
  }
}

struct Claim {
  std::string run_id;
  std::string pid;
};

/// "<run id> <pid>\n"; anything else is nobody's claim.
Claim read_claim(int fd) {
  char buffer[64];
  const ssize_t n = ::pread(fd, buffer, sizeof buffer, 0);
  const std::string text(buffer, n > 0 ? static_cast<std::size_t>(n) : 0);
  const auto space = text.find(' ');
  const auto end = text.find('\n');
  if (space == std::string::npos || end == std::string::npos || end < space) return {};
  return {text.substr(0, space), text.substr(space + 1, end - space - 1)};
}

void write_claim(int fd, const std::string& run_id, const std::string& path) {
  const std::string text = run_id + ' ' + std::to_string(::getpid()) + '\n';
  if (::ftruncate(fd, 0) != 0) fail(path, "cannot write it");
  if (::pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) fail(path, "cannot write it");
}

}  // namespace

VmClaim::VmClaim(const std::string& vm, const std::string& run_id, const std::string& run_directory)
    : path_(run_directory + "/vm-" + vm + ".claim"), run_id_(run_id) {
  check_vm_name(vm);  // it becomes part of a path
  make_run_directory(run_directory);
  const auto fd = open_locked(path_);
  const Claim holder = read_claim(fd.get());
  if (holder.run_id == run_id_ || run_is_alive(holder.run_id, run_directory)) {
    throw Fault(FaultKind::locked, vm + ": locked by run " + holder.run_id + " of this host (pid " + holder.pid + ")");
  }
  write_claim(fd.get(), run_id_, path_);
}

VmClaim::~VmClaim() {
  try {
    const auto fd = open_locked(path_);
    if (read_claim(fd.get()).run_id == run_id_) ::unlink(path_.c_str());
  } catch (const std::exception&) {
    // The claim ends with the run anyway.
  }
}

}  // namespace nasbackup::set
