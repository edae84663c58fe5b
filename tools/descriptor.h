// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// File descriptors that close themselves, and the few calls on them that the command needs. One object, one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>

namespace nasbackup::tools {

class Descriptor {
 public:
  Descriptor() noexcept = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { close(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void close() noexcept;

 private:
  int fd_ = -1;
};

/// Both ends close on exec. Throws nasbackup::Error.
struct Pipe {
  Pipe();
  Descriptor read_end;
  Descriptor write_end;
};

/// fork(); throws nasbackup::Error. For a process that has no threads yet.
pid_t fork_process();

/// Points stdin at nothing, and stdout and stderr at `messages` (-1: at nothing too), so that nothing of the caller's stays open.
void replace_stdio(int messages) noexcept;

/// Writes all of it, waiting as long as it takes; false when the other side is gone.
bool write_all(int fd, std::string_view bytes) noexcept;

/// Appends what is there to read, at most 1 MiB, without waiting. False at the end of the stream.
bool read_available(int fd, std::string& into);

/// Waits until the process has ended or `milliseconds` have passed; true when it has ended.
bool ended_within(pid_t pid, int milliseconds) noexcept;

}  // namespace nasbackup::tools
