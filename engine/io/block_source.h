// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where guest data comes from. One implementation for each protocol (file, NBD, memory).
// Used on the loop's thread only; many reads may be under way at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "formats/units.h"

namespace nasbackup {

namespace asio = boost::asio;

enum class ExtentKind {
  data,
  zero,
  parent,  ///< as in the set on which this one shall stand: it is not to be read
};

struct Extent {
  GuestRange range;
  ExtentKind kind;
};

/// What the pipeline must know of a source before the first read.
struct SourceTraits {
  std::uint64_t size = 0;       ///< bytes
  std::uint64_t alignment = 1;  ///< offsets and lengths of reads are multiples of it, a power of two
  unsigned depth = 1;           ///< reads worth having under way at once
  unsigned connections = 0;     ///< that are open; 0: it has none
  std::uint64_t item = 0;       ///< bytes of one read that go fastest, a power of two; 0: as much as suits everybody
};

class BlockSource {
 public:
  virtual ~BlockSource() = default;

  virtual SourceTraits traits() const noexcept = 0;
  /// What lies from `from` on: at least one extent, each non-empty, the first beginning at `from`, each beginning where the one
  /// before ended, none past the end of the disk. Data extents may be wider than the data: whatever shares a piece of
  /// `granularity` bytes with data may be called data. Throws Fault.
  virtual asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) = 0;
  /// Fills all of `into` or throws Fault; what lies past the end of the disk reads as zero.
  virtual asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) = 0;
  /// After the last read: is what was read still what the source is? Throws Fault when it changed meanwhile.
  virtual asio::awaitable<void> confirm() = 0;
};

}  // namespace nasbackup
