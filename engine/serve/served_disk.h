// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A source as clients read it: any range of bytes, whatever the source's alignment, at the pace of the limiter.
// Used on the loop's thread only; many reads may be under way at once.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/io/block_source.h"
#include "engine/io/limiter.h"

namespace nasbackup {

struct LifelineState;

class ServedDisk {
 public:
  /// References outlive the disk; `lifeline` may be null.
  ServedDisk(std::unique_ptr<BlockSource> source, Limiter& limiter, LifelineState* lifeline);

  std::uint64_t size() const noexcept { return size_; }
  /// Bytes of buffer that reading the range takes.
  std::size_t buffer_for(const GuestRange& range) const noexcept;
  /// Reads into `buffer`, which has the size that buffer_for() says, and returns the part of it that is the range. Throws Fault.
  asio::awaitable<std::span<const std::byte>> read(GuestRange range, std::span<std::byte> buffer);
  /// As BlockSource::extents(), from any offset inside the disk. Throws Fault.
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from);

 private:
  GuestRange aligned(const GuestRange& range) const noexcept;

  std::unique_ptr<BlockSource> source_;
  Limiter& limiter_;
  LifelineState* lifeline_;
  std::uint64_t size_;
  std::uint64_t alignment_;
};

}  // namespace nasbackup
