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
  /// Makes the file `size` bytes long, flushes and closes it: errors that a network file system reports only now count. Throws
  /// Fault.
  virtual asio::awaitable<void> close(std::uint64_t size) = 0;
};

}  // namespace nasbackup
