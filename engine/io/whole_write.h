// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Writes to an image in place: all of the bytes, or a Fault. Functions without state.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "engine/io/fault.h"

namespace nasbackup {

inline void write_whole(int fd, std::uint64_t offset, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t done = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw_target_errno(errno, path, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(done));
    offset += static_cast<std::uint64_t>(done);
  }
}

inline void sync_whole(int fd, const std::string& path) {
  if (::fsync(fd) != 0) throw_target_errno(errno, path, "fsync");
}

}  // namespace nasbackup
