// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a check may change while it looks, in rounds: each is a whole check of what the round before it left, and hands out the
// blocks that should stand in the image instead. Nothing is written here. Plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace nasbackup::qcow2 {

enum class RepairRound {
  leaks,        ///< refcounts that are too large; not while something that holds references cannot be followed
  refcounts,    ///< also those that are too small, where there is a block for them
  copied,       ///< COPIED flags; only sound when every refcount is right
  header_bits,  ///< the dirty and the corrupt bit; only sound when nothing else is wrong
};

struct RepairRequest {
  RepairRound round;
  /// Both of the same size, at most a cluster, within the file. Blocks do not overlap.
  std::function<void(std::uint64_t offset, std::span<const std::byte> old, std::span<const std::byte> now)> take;
};

}  // namespace nasbackup::qcow2
