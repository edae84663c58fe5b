// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See image_source.h.
#include "engine/io/image_source.h"

#include <algorithm>
#include <cstring>

#include "engine/io/on_thread.h"

namespace nasbackup {

namespace {

/// Extents handed out by one call: enough to keep the readers busy, few enough to be cheap; and no more of the disk than tables
/// can be looked through in a moment.
constexpr std::size_t kExtentsPerCall = 256;
constexpr std::uint64_t kBytesPerCall = std::uint64_t{64} << 30;

}  // namespace

asio::awaitable<std::vector<Extent>> ImageSource::extents(GuestOffset from, std::uint64_t granularity) {
  std::vector<Extent> found;
  auto look = [&] {
    const GuestOffset end(std::min(image_->size(), from.value + kBytesPerCall));
    for (GuestOffset at = from; at < end && found.size() < kExtentsPerCall; at = found.back().range.end())
      found.push_back(image_->extent(at, end - at, granularity));
  };
  co_await on_thread(pool_, look);
  co_return found;
}

asio::awaitable<void> ImageSource::read(GuestOffset from, std::span<std::byte> into) { return fill(from, into, nullptr); }

asio::awaitable<void> ImageSource::read_with_streams(GuestOffset from, std::span<std::byte> into, KeptStreams& keep) {
  return fill(from, into, &keep);
}

asio::awaitable<void> ImageSource::fill(GuestOffset from, std::span<std::byte> into, KeptStreams* keep) {
  auto read_now = [&] {
    const std::uint64_t inside = std::min<std::uint64_t>(into.size(), image_->size() - std::min(image_->size(), from.value));
    if (inside > 0) image_->read(from, into.first(inside), keep);
    std::memset(into.data() + inside, 0, into.size() - inside);
  };
  co_await on_thread(pool_, read_now);
}

asio::awaitable<void> ImageSource::confirm() {
  auto look = [&] { image_->confirm(); };
  co_await on_thread(pool_, look);
}

}  // namespace nasbackup
