// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How much of a file is written before its writeback, and a flush, are begun: much where that is fast, little where it is slow,
// so that no call on a slow storage takes so long that it is taken for one that hangs (--io-timeout). Judged by the flushes,
// because not every file system tells how long writeback takes (FUSE calls it done at once). Without a clock of its own; used by
// one thread at a time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace nasbackup {

class WritebackStretch {
 public:
  static constexpr std::uint64_t kLeast = 1u << 20;
  static constexpr std::uint64_t kMost = 32u << 20;

  /// The writeback of each is begun, and that of the one before is waited for: at most two are dirty.
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::uint64_t of_flush() const noexcept { return 2 * bytes_; }

  /// It begins small: nothing is known of the storage.
  void flushed_in(std::chrono::nanoseconds time) noexcept {
    constexpr std::chrono::milliseconds kShort{200}, kLong{800};
    if (time <= kShort) bytes_ = std::min(bytes_ * 2, kMost);
    if (time >= kLong) bytes_ = std::max(bytes_ / 2, kLeast);
  }

 private:
  std::uint64_t bytes_ = kLeast;
};

}  // namespace nasbackup
