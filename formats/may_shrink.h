// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Is a cluster worth the compressor's time? Looks at a sixteenth of it, so that a disk of encrypted or compressed data costs
// hardly more than one that is stored plain. Safe everywhere.
#pragma once

#include <cstddef>
#include <span>

namespace nasbackup {

/// False when the bytes look random: evenly spread over all values, and no repetition at the distances that disks have. The
/// answer depends on the cluster alone. A true one is only a guess: what did not shrink is stored plain all the same. What a
/// false one costs is in docs/performance.md, "Codecs". `cluster` is 512 bytes or a multiple of it.
bool may_shrink(std::span<const std::byte> cluster) noexcept;

}  // namespace nasbackup
