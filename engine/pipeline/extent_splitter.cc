// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Extents into work items; see extent_splitter.h.
#include "engine/pipeline/extent_splitter.h"

#include <algorithm>
#include <cassert>

namespace nasbackup {

ExtentSplitter::ExtentSplitter(std::uint64_t disk_size, std::uint64_t cluster, std::uint64_t item,
                               std::uint64_t absent_item) noexcept
    : disk_size_(disk_size), cluster_(cluster), item_(item), absent_item_(absent_item) {
  assert(cluster > 0 && item % cluster == 0 && item > 0 && absent_item > 0 &&
         (absent_item == kNoBound || absent_item % cluster == 0));
}

void ExtentSplitter::add(const Extent& extent, std::vector<WorkItem>& out) {
  const std::uint64_t end = extent.range.end().value;
  if (started_) {
    if (*started_ != extent.kind) started_ = ExtentKind::data;
    const std::uint64_t whole = std::min(disk_size_, assigned_ + cluster_);
    if (end < whole) return;
    add_clusters(whole, *started_, out);
    started_.reset();
  }
  const std::uint64_t whole = end >= disk_size_ ? disk_size_ : round_down(end, cluster_);
  if (whole > assigned_) add_clusters(whole, extent.kind, out);
  if (end > assigned_) started_ = extent.kind;
}

void ExtentSplitter::add_clusters(std::uint64_t to, ExtentKind kind, std::vector<WorkItem>& out) {
  if (run_ && run_kind_ != kind) emit_run(out);
  run_kind_ = kind;
  if (kind == ExtentKind::data) {
    add_data(assigned_, to, out);
  } else {
    if (!run_) run_ = GuestRange{GuestOffset(assigned_), 0};
    run_->length += to - assigned_;
  }
  assigned_ = to;
}

// Items end on a grid of the item size, so that equal disks are cut alike however their extents are reported.
void ExtentSplitter::add_data(std::uint64_t from, std::uint64_t to, std::vector<WorkItem>& out) {
  while (from < to) {
    const std::uint64_t end = std::min(to, round_down(from, item_) + item_);
    if (!run_) run_ = GuestRange{GuestOffset(from), 0};
    assert(run_->end().value == from);
    run_->length += end - from;
    if (end % item_ == 0) emit_run(out);
    from = end;
  }
}

void ExtentSplitter::emit_run(std::vector<WorkItem>& out) {
  if (!run_) return;
  const std::uint64_t most = run_kind_ == ExtentKind::data ? item_ : absent_item_, end = run_->end().value;
  for (std::uint64_t from = run_->start.value, length = 0; from < end; from += length) {
    length = std::min(most, end - from);
    emit(from, from + length, run_kind_, out);
  }
  run_.reset();
}

void ExtentSplitter::emit(std::uint64_t from, std::uint64_t to, ExtentKind kind, std::vector<WorkItem>& out) {
  out.push_back({next_sequence_++, {GuestOffset(from), to - from}, kind});
}

}  // namespace nasbackup
