// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A source that stores compressed clusters and gives their streams away with what it reads. Used on the loop's thread only; many
// reads may be under way at once.
#pragma once

#include <cstddef>
#include <span>

#include <boost/asio/awaitable.hpp>

#include "formats/kept_streams.h"
#include "formats/units.h"

namespace nasbackup {

namespace asio = boost::asio;

class StreamSource {
 public:
  virtual ~StreamSource() = default;

  /// As BlockSource::read(); `keep` also gets the streams that the bytes were decoded from, as far as it wants them.
  virtual asio::awaitable<void> read_with_streams(GuestOffset from, std::span<std::byte> into, KeptStreams& keep) = 0;
};

}  // namespace nasbackup
