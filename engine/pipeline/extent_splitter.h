// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Extents, as fine or coarse as the source reports them, into work items: whole clusters, data in pieces of at most the item
// size, what is not read in one piece however long unless that is bounded too. A cluster that holds any data is data, and so is
// one that is partly zero and partly as in the parent. Pure; used by one thread at a time.
#pragma once

#include <optional>
#include <vector>

#include "engine/pipeline/work_item.h"

namespace nasbackup {

class ExtentSplitter {
 public:
  static constexpr std::uint64_t kNoBound = std::uint64_t{1} << 62;

  /// In bytes; `item` and `absent_item`, the most of data and of anything else in one item, multiples of `cluster`.
  ExtentSplitter(std::uint64_t disk_size, std::uint64_t cluster, std::uint64_t item,
                 std::uint64_t absent_item = kNoBound) noexcept;

  /// Extents come in guest order without gaps; the finished items are appended to `out`.
  void add(const Extent& extent, std::vector<WorkItem>& out);
  /// After the last extent.
  void finish(std::vector<WorkItem>& out) { emit_run(out); }

 private:
  void add_clusters(std::uint64_t to, ExtentKind kind, std::vector<WorkItem>& out);
  void add_data(std::uint64_t from, std::uint64_t to, std::vector<WorkItem>& out);
  void emit_run(std::vector<WorkItem>& out);
  void emit(std::uint64_t from, std::uint64_t to, ExtentKind kind, std::vector<WorkItem>& out);

  std::uint64_t disk_size_;
  std::uint64_t cluster_;
  std::uint64_t item_;
  std::uint64_t absent_item_;
  std::uint64_t assigned_ = 0;         // guest bytes before it are in an item, or in run_
  std::optional<ExtentKind> started_;  // what the cluster at assigned_ is so far, when only a part of it is known
  std::optional<GuestRange> run_;      // whole clusters of one kind that the next extent may extend
  ExtentKind run_kind_ = ExtentKind::data;
  std::uint64_t next_sequence_ = 0;
};

}  // namespace nasbackup
