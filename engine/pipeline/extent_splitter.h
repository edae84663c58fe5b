// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Extents, as fine or coarse as the source reports them, into work items: whole clusters, data in pieces of at most the item
// size, zeroes in one piece however long unless they are bounded too. A cluster that holds any data is data. Pure; used by one
// thread at a time.
#pragma once

#include <optional>
#include <vector>

#include "engine/pipeline/work_item.h"

namespace nasbackup {

class ExtentSplitter {
 public:
  static constexpr std::uint64_t kNoBound = std::uint64_t{1} << 62;

  /// In bytes; `item` and `zero_item`, the most of data and of zeroes in one item, multiples of `cluster`.
  ExtentSplitter(std::uint64_t disk_size, std::uint64_t cluster, std::uint64_t item, std::uint64_t zero_item = kNoBound) noexcept;

  /// Extents come in guest order without gaps; the finished items are appended to `out`.
  void add(const Extent& extent, std::vector<WorkItem>& out);
  /// After the last extent.
  void finish(std::vector<WorkItem>& out);

 private:
  void add_data(std::uint64_t from, std::uint64_t to, std::vector<WorkItem>& out);
  void emit_zeroes(std::uint64_t from, std::uint64_t to, std::vector<WorkItem>& out);
  void emit(std::uint64_t from, std::uint64_t to, ExtentKind kind, std::vector<WorkItem>& out);
  void emit_pending(std::vector<WorkItem>& out);

  std::uint64_t disk_size_;
  std::uint64_t cluster_;
  std::uint64_t item_;
  std::uint64_t zero_item_;
  std::uint64_t assigned_ = 0;         // guest bytes before it are in an item, or in pending_
  std::optional<GuestRange> pending_;  // data that the next extent may extend
  std::uint64_t next_sequence_ = 0;
};

}  // namespace nasbackup
