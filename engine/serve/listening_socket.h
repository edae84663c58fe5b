// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where clients come in: a UNIX socket, or a port on 127.0.0.1. The socket file appears when the server listens, and goes with
// this object. Used by one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "engine/io/file_descriptor.h"

namespace nasbackup {

class ListeningSocket {
 public:
  /// Replaces the socket file that a dead server left; one on which somebody listens, and any other file, is refused. Only the
  /// owner may connect. Throws Fault.
  static ListeningSocket at_path(const std::string& path);
  /// On the loopback interface; 0: a port that is free. Throws Fault.
  static ListeningSocket at_port(std::uint16_t port);

  ListeningSocket(ListeningSocket&&) noexcept = default;
  ~ListeningSocket();

  /// Of an export, as clients write it.
  std::string uri(const std::string& export_name) const;
  int fd() const noexcept { return socket_.get(); }
  /// The next client, which does not block; none when there is none (any more), with errno.
  FileDescriptor accept() const noexcept;

 private:
  ListeningSocket(FileDescriptor socket, std::string path, std::uint16_t port) noexcept;

  FileDescriptor socket_;
  std::string path_;  // empty: a port
  std::uint16_t port_;
  dev_t device_ = 0;  // of the socket file
  ino_t inode_ = 0;
};

}  // namespace nasbackup
