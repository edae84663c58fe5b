// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where image bytes go. One implementation for each protocol (file, NBD, memory, nothing).
// Used on the loop's thread only. Batches are begun in the order of the apply() calls, and may be under way together.
#pragma once

#include <cstdint>

#include <boost/asio/awaitable.hpp>

#include "formats/write_batch.h"

namespace nasbackup {

namespace asio = boost::asio;

class BlockTarget {
 public:
  virtual ~BlockTarget() = default;

  /// Writes all of `batch`, which lives until this is done. A node may change its bytes and offsets on the way. Throws Fault.
  virtual asio::awaitable<void> apply(WriteBatch& batch) = 0;
  /// What was applied before is on stable storage afterwards. Throws Fault.
  virtual asio::awaitable<void> flush() = 0;
  /// Makes room for `size` bytes exactly, flushes and closes the file: errors that a network file system reports only now count.
  /// Returns how long the file is; a node that adds bytes of its own has made it longer. Throws Fault.
  virtual asio::awaitable<std::uint64_t> close(std::uint64_t size) = 0;
};

}  // namespace nasbackup
