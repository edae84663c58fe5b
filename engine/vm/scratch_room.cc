// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The marks are those of the project's scratch rule: max(5 %, 256 MiB), and half of it.
#include "engine/vm/scratch_room.h"

#include <algorithm>

#include <fmt/format.h>

namespace nasbackup::vm {
namespace {

constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kSmallestLowMark = 256 * kMiB;
constexpr std::uint64_t kScratchCluster = 64 * 1024;  ///< libvirt leaves qcow2's default cluster size

/// Other programs write to the same file system; they get this much before "room for everything" stops being true.
constexpr std::uint64_t kHeadroom = 16 * kMiB;

bool holds_worst_case(const ScratchRoom& room) noexcept {
  const std::uint64_t to_come = room.worst_case_bytes - std::min(room.used_bytes, room.worst_case_bytes);
  return room.worst_case_bytes != 0 && room.free_bytes >= to_come + kHeadroom;
}

}  // namespace

std::uint64_t low_mark(std::uint64_t total_bytes) noexcept { return std::max(total_bytes / 20, kSmallestLowMark); }

std::uint64_t give_up_mark(std::uint64_t total_bytes) noexcept { return low_mark(total_bytes) / 2; }

std::uint64_t worst_case_scratch(std::uint64_t virtual_size) noexcept {
  const std::uint64_t clusters = virtual_size / kScratchCluster + 1;
  // Each cluster costs 8 bytes of L2 table and 2 of refcount; header, L1 and the first blocks are far below 1 MiB
  // until the L1 table grows with the disk (8 bytes for each 512 MiB, in this bound many times over).
  return clusters * (kScratchCluster + 16) + kMiB;
}

ScratchVerdict judge_scratch(const ScratchRoom& room, std::uint64_t fill_rate) noexcept {
  if (holds_worst_case(room)) return ScratchVerdict::ample;
  const std::uint64_t soon = fill_rate / 1000 * static_cast<std::uint64_t>(kAbortTime.count());
  if (room.free_bytes < give_up_mark(room.total_bytes) || room.free_bytes < soon) return ScratchVerdict::give_up;
  return room.free_bytes < low_mark(room.total_bytes) ? ScratchVerdict::low : ScratchVerdict::ample;
}

std::string scratch_obstacle(const ScratchRoom& room, const std::string& directory) {
  if (holds_worst_case(room)) return {};
  const std::uint64_t needed = std::max(kSmallestLowMark, give_up_mark(room.total_bytes));
  if (room.free_bytes >= needed) return {};
  return fmt::format(
      "scratch directory {}: too little room for what the guest may write during the job: {} free, {} needed "
      "(--scratch names another directory)",
      directory, in_mib(room.free_bytes), in_mib(std::min(needed, room.worst_case_bytes + kHeadroom)));
}

std::string in_mib(std::uint64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / kMiB); }

}  // namespace nasbackup::vm
