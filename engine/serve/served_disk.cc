// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See served_disk.h.
#include "engine/serve/served_disk.h"

#include <algorithm>
#include <cassert>

#include "engine/io/lifeline_state.h"

namespace nasbackup {

namespace {

/// A limit is kept in steps of it: what a guest's file system works in.
constexpr std::uint64_t kPage = 4096;
/// Block status is told in pieces of it (proto.md, "NBD_CMD_BLOCK_STATUS").
constexpr std::uint64_t kSector = 512;

}  // namespace

ServedDisk::ServedDisk(std::unique_ptr<BlockSource> source, Limiter& limiter, LifelineState* lifeline)
    : source_(std::move(source)),
      limiter_(limiter),
      lifeline_(lifeline),
      size_(source_->traits().size),
      alignment_(source_->traits().alignment) {}

GuestRange ServedDisk::aligned(const GuestRange& range) const noexcept {
  const std::uint64_t start = round_down(range.start.value, alignment_);
  return {GuestOffset(start), round_up(range.end().value, alignment_) - start};
}

std::size_t ServedDisk::buffer_for(const GuestRange& range) const noexcept { return aligned(range).length; }

asio::awaitable<std::span<const std::byte>> ServedDisk::read(GuestRange range, std::span<std::byte> buffer) {
  const GuestRange whole = aligned(range);
  assert(whole.length == buffer.size());
  for (std::uint64_t done = 0, length = 0; done < whole.length; done += length) {
    length = std::min(limiter_.most_at_once(std::max(alignment_, kPage)), whole.length - done);
    co_await limiter_.take(length, done != 0);
    co_await source_->read(whole.start + done, buffer.subspan(done, length));
  }
  if (lifeline_ != nullptr) lifeline_->read_bytes += whole.length;
  co_return buffer.subspan(range.start - whole.start, range.length);
}

asio::awaitable<std::vector<Extent>> ServedDisk::extents(GuestOffset from) {
  std::vector<Extent> found;
  // What lies in front of `from` is not asked for.
  for (GuestOffset at(round_down(from.value, alignment_)); found.empty();) {
    found = co_await source_->extents(at, std::max(alignment_, kSector));
    at = found.back().range.end();
    std::erase_if(found, [&](const Extent& extent) { return extent.range.end() <= from; });
  }
  GuestRange& first = found.front().range;
  first = {from, first.end() - from};
  co_return found;
}

}  // namespace nasbackup
