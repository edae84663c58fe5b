// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Free space; see free_space.h.
#include "engine/set/free_space.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include "engine/io/fault.h"

namespace nasbackup::set {

std::optional<std::uint64_t> free_space(const Directory& directory) {
  struct statvfs room {};
  TargetCall mark(directory.state());
  if (::fstatvfs(directory.fd(), &room) != 0) throw_target_errno(errno, directory.path(), "cannot ask for free space");
  if (room.f_blocks == 0) return std::nullopt;
  const std::uint64_t unit = room.f_frsize != 0 ? room.f_frsize : room.f_bsize;
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(room.f_bavail, unit, &bytes)) return UINT64_MAX;
  return bytes;
}

void check_free_space(const Directory& directory, std::uint64_t needed, const std::string& where) {
  const auto room = free_space(directory);
  if (!room || *room >= needed) return;
  // In the words of CloudStack's script (cloudstack-contract.md, 3.10).
  throw Fault(FaultKind::target_full, fmt::format("{}: Insufficient free space on {}: {} MB available, {} MB required",
                                                  directory.path(), where, *room >> 20, (needed + (1u << 20) - 1) >> 20));
}

}  // namespace nasbackup::set
