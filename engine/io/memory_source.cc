// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A disk in memory; see memory_source.h.
#include "engine/io/memory_source.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "formats/is_zero.h"

namespace nasbackup {

asio::awaitable<std::vector<Extent>> MemorySource::extents(GuestOffset from, std::uint64_t granularity) {
  const std::span<const std::byte> disk(disk_);
  std::vector<Extent> found;
  for (std::uint64_t at = from.value; at < disk.size();) {
    const std::uint64_t end = std::min<std::uint64_t>(disk.size(), round_down(at, granularity) + granularity);
    const auto kind = holes_ && is_zero(disk.subspan(at, end - at)) ? ExtentKind::zero : ExtentKind::data;
    if (!found.empty() && found.back().kind == kind)
      found.back().range.length += end - at;
    else
      found.push_back({{GuestOffset(at), end - at}, kind});
    at = end;
  }
  co_return found;
}

asio::awaitable<void> MemorySource::read(GuestOffset from, std::span<std::byte> into) {
  if (!shuffle_.empty()) {
    asio::steady_timer late(loop_, std::chrono::microseconds(shuffle_.front()() % 3000));
    co_await late.async_wait(asio::use_awaitable);
  }
  const auto inside = std::min<std::uint64_t>(into.size(), disk_.size() - std::min<std::uint64_t>(disk_.size(), from.value));
  std::memcpy(into.data(), disk_.data() + from.value, inside);
  std::memset(into.data() + inside, 0, into.size() - inside);
}

}  // namespace nasbackup
