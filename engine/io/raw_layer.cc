// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See raw_layer.h.
#include "engine/io/raw_layer.h"

#include <unistd.h>

#include <algorithm>

#include "engine/io/fault.h"

namespace nasbackup {

// At most two calls for a run of data, however finely it is broken up inside one piece of `granularity`: after data the search
// goes on behind the whole piece.
Extent RawLayer::extent(GuestOffset from, std::uint64_t most, std::uint64_t granularity) const {
  const std::uint64_t at = from.value, end = at + std::min(most, size() - at);
  const std::uint64_t data = std::max(at, std::min(end, round_down(bytes_->seek(at, SEEK_DATA), granularity)));
  if (data > at) return {{from, data - at}, ExtentKind::zero};
  const std::uint64_t hole = round_up(bytes_->seek(at, SEEK_HOLE), granularity);
  return {{from, std::min(end, std::max(hole, at + granularity)) - at}, ExtentKind::data};
}

void RawLayer::read(GuestOffset from, std::span<std::byte> into, KeptStreams*) const {
  const std::size_t got = bytes_->read_up_to(from.value, into);
  if (got < into.size())
    throw Fault(FaultKind::source, bytes_->path() + ": shrank while it was read: ends at " + std::to_string(from.value + got) +
                                       " of " + std::to_string(size()) + " bytes");
}

}  // namespace nasbackup
