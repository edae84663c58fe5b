// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See forgiving_source.h.
#include "engine/io/forgiving_source.h"

#include <algorithm>
#include <cstring>

#include "engine/io/fault.h"

namespace nasbackup {

// Its reading says what is wrong there.
asio::awaitable<std::vector<Extent>> ForgivingSource::extents(GuestOffset from, std::uint64_t granularity) {
  try {
    co_return co_await inner_->extents(from, granularity);
  } catch (const Fault& fault) {
    if (fault.kind() != FaultKind::damaged) throw;
  }
  const std::uint64_t rest = step_ - from.value % step_;
  std::vector<Extent> unknown;
  unknown.push_back({{from, std::min(rest, traits().size - from.value)}, ExtentKind::data});
  co_return unknown;
}

asio::awaitable<void> ForgivingSource::read(GuestOffset from, std::span<std::byte> into) {
  try {
    co_return co_await inner_->read(from, into);
  } catch (const Fault& fault) {
    if (fault.kind() != FaultKind::damaged) throw;
  }
  for (std::uint64_t done = 0, length = 0; done < into.size(); done += length) {
    length = std::min(step_ - (from.value + done) % step_, into.size() - done);
    co_await read_step(from + done, into.subspan(done, length));
  }
}

asio::awaitable<void> ForgivingSource::read_step(GuestOffset from, std::span<std::byte> into) {
  try {
    co_return co_await inner_->read(from, into);
  } catch (const Fault& fault) {
    if (fault.kind() != FaultKind::damaged) throw;
    std::memset(into.data(), 0, into.size());
    if (from.value < traits().size)
      on_damage_({from, std::min<std::uint64_t>(into.size(), traits().size - from.value)}, fault.what());
  }
}

}  // namespace nasbackup
