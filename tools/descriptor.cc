// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See descriptor.h.
#include "tools/descriptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/nasbackup.h"

namespace nasbackup::tools {

void Descriptor::close() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Pipe::Pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Error(Outcome::failed, std::string("pipe: ") + std::strerror(errno));
  read_end = Descriptor(ends[0]);
  write_end = Descriptor(ends[1]);
}

pid_t fork_process() {
  const pid_t pid = ::fork();
  if (pid < 0) throw Error(Outcome::failed, std::string("fork: ") + std::strerror(errno));
  return pid;
}

void replace_stdio(int messages) noexcept {
  const Descriptor nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  ::dup2(nothing.get(), STDIN_FILENO);
  ::dup2(messages < 0 ? nothing.get() : messages, STDOUT_FILENO);
  ::dup2(messages < 0 ? nothing.get() : messages, STDERR_FILENO);
}

bool write_all(int fd, std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {  // the caller gave us a stdout that does not wait
      pollfd one{fd, POLLOUT, 0};
      ::poll(&one, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

bool read_available(int fd, std::string& into) {
  pollfd one{fd, POLLIN, 0};
  // Not for ever: the other side may write faster than we read.
  for (int turn = 0; turn < 64 && ::poll(&one, 1, 0) > 0; ++turn) {
    char buffer[16384];
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got == 0 || (got < 0 && errno != EINTR)) return false;
    if (got > 0) into.append(buffer, static_cast<std::size_t>(got));
  }
  return true;
}

bool ended_within(pid_t pid, int milliseconds) noexcept {
  const auto has_ended = [pid] {
    const pid_t found = ::waitpid(pid, nullptr, WNOHANG);
    return found == pid || (found < 0 && errno == ECHILD);
  };
  if (has_ended()) return true;
  // By number: glibc 2.36's header declares pidfd_open without C linkage. No descriptor: the whole time is waited.
  const Descriptor process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  pollfd end{process.get(), POLLIN, 0};
  ::poll(&end, 1, milliseconds);
  return has_ended();
}

}  // namespace nasbackup::tools
