// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The line in which backups of this host wait (nasbackup.h, HostQueue): a file for each, RUN_DIRECTORY/queue-NUMBER, locked by
// its process for as long as that lives. The lock is a record lock, because fork() does not pass it on: a worker that hangs in
// the kernel holds nobody up. Numbers are given under a lock on the directory, each greater than all that are there.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/run_lock.h"
#include "engine/nasbackup.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

constexpr std::string_view kPrefix = "queue-";
/// Whoever gives itself a number holds the directory for some milliseconds; one that is stopped then must not stop everybody.
constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::milliseconds kPause{5};

[[noreturn]] void refuse(const std::string& path, const char* what) {
  throw Fault(FaultKind::failed, path + ": " + what + ": " + std::strerror(errno));
}

FileDescriptor locked(const std::string& directory) {
  FileDescriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) refuse(directory, "open");
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) refuse(directory, "lock");
    if (std::chrono::steady_clock::now() > until)
      throw Fault(FaultKind::locked, directory + ": another run has it locked and does not let go");
    std::this_thread::sleep_for(kPause);
  }
  return fd;
}

struct flock whole_file(short type) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

/// Asking takes nothing away from anybody. What cannot be found out counts as alive, but for a file that is gone.
bool is_alive(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return errno != ENOENT;
  struct flock lock = whole_file(F_WRLCK);
  return ::fcntl(file.get(), F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/// 0: it is no place in the line.
std::uint64_t number_in(const std::string& name) noexcept {
  std::uint64_t number = 0;
  if (!name.starts_with(kPrefix)) return 0;
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + kPrefix.size(), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end ? number : 0;
}

template <class Look>
void for_each_place(const std::string& directory, Look&& look) {
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end; at.increment(error))
    if (const std::uint64_t number = number_in(at->path().filename().string()); number != 0) look(number, at->path().string());
  if (error) throw Fault(FaultKind::failed, directory + ": list: " + error.message());
}

}  // namespace

HostQueue::HostQueue(std::string run_directory) : directory_(std::move(run_directory)) {
  translate_faults([this] {
    if (directory_.empty()) make_run_directory(directory_ = kRunDirectory);
    join();
  });
}

void HostQueue::join() {
  const FileDescriptor alone = locked(directory_);
  for_each_place(directory_, [this](std::uint64_t number, const std::string& path) {
    if (is_alive(path))
      number_ = std::max(number_, number);
    else
      ::unlink(path.c_str());
  });
  path_ = fmt::format("{}/{}{}", directory_, kPrefix, ++number_);
  FileDescriptor file(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) refuse(path_, "create");
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(file.get(), F_SETLK, &lock) != 0) refuse(path_, "lock");
  file_ = file.release();
}

HostQueue::~HostQueue() {
  ::unlink(path_.c_str());
  ::close(file_);
}

std::size_t HostQueue::before() const {
  return translate_faults([this] {
    std::size_t count = 0;
    // Not its own file: closing a descriptor of that drops the lock.
    for_each_place(directory_,
                   [&](std::uint64_t number, const std::string& path) { count += number < number_ && is_alive(path); });
    return count;
  });
}

}  // namespace nasbackup
