// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Extents into work items; see extent_splitter.h.
#include "engine/pipeline/extent_splitter.h"

#include <algorithm>
#include <cassert>

namespace nasbackup {

ExtentSplitter::ExtentSplitter(std::uint64_t disk_size, std::uint64_t cluster, std::uint64_t item,
                               std::uint64_t zero_item) noexcept
    : disk_size_(disk_size), cluster_(cluster), item_(item), zero_item_(zero_item) {
  assert(cluster > 0 && item % cluster == 0 && item > 0 && zero_item > 0 && (zero_item == kNoBound || zero_item % cluster == 0));
}

void ExtentSplitter::add(const Extent& extent, std::vector<WorkItem>& out) {
  if (extent.kind == ExtentKind::zero) return;  // what no data extent claims is zero
  const std::uint64_t from = std::max(assigned_, round_down(extent.range.start.value, cluster_));
  const std::uint64_t to = std::min(disk_size_, round_up(extent.range.end().value, cluster_));
  if (from >= to) return;
  if (from > assigned_) {
    emit_pending(out);
    emit_zeroes(assigned_, from, out);
  }
  add_data(from, to, out);
  assigned_ = to;
}

// Items end on a grid of the item size, so that equal disks are cut alike however their extents are reported.
void ExtentSplitter::add_data(std::uint64_t from, std::uint64_t to, std::vector<WorkItem>& out) {
  while (from < to) {
    const std::uint64_t end = std::min(to, round_down(from, item_) + item_);
    if (!pending_) pending_ = GuestRange{GuestOffset(from), 0};
    assert(pending_->end().value == from);
    pending_->length += end - from;
    if (end % item_ == 0) emit_pending(out);
    from = end;
  }
}

void ExtentSplitter::finish(std::vector<WorkItem>& out) {
  emit_pending(out);
  emit_zeroes(assigned_, disk_size_, out);
  assigned_ = disk_size_;
}

void ExtentSplitter::emit_zeroes(std::uint64_t from, std::uint64_t to, std::vector<WorkItem>& out) {
  for (std::uint64_t length = 0; from < to; from += length) {
    length = std::min(zero_item_, to - from);
    emit(from, from + length, ExtentKind::zero, out);
  }
}

void ExtentSplitter::emit_pending(std::vector<WorkItem>& out) {
  if (!pending_) return;
  emit(pending_->start.value, pending_->end().value, ExtentKind::data, out);
  pending_.reset();
}

void ExtentSplitter::emit(std::uint64_t from, std::uint64_t to, ExtentKind kind, std::vector<WorkItem>& out) {
  out.push_back({next_sequence_++, {GuestOffset(from), to - from}, kind});
}

}  // namespace nasbackup
