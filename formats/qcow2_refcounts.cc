// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Refcounts of a growing image; see qcow2_refcounts.h.
#include "formats/qcow2_refcounts.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "formats/format_error.h"

namespace nasbackup::qcow2 {

Refcounts::Refcounts(std::uint64_t cluster_size, std::uint64_t table_clusters)
    : cluster_size_(cluster_size),
      per_block_(refcounts_per_block(cluster_size)),
      table_(table_clusters * cluster_size / sizeof(Be64)) {}

Refcount& Refcounts::count_of(std::uint64_t cluster) {
  assert(cluster / per_block_ >= first_block_);
  return blocks_[cluster / per_block_ - first_block_][cluster % per_block_];
}

void Refcounts::make_blocks_up_to(std::uint64_t cluster) {
  while (cluster / per_block_ - first_block_ >= blocks_.size()) blocks_.emplace_back(per_block_);
}

HostOffset Refcounts::allocate(std::uint64_t clusters) {
  const std::uint64_t first = next_cluster_;
  next_cluster_ += clusters;
  if (clusters > 0) make_blocks_up_to(next_cluster_ - 1);
  for (std::uint64_t cluster = first; cluster < next_cluster_; ++cluster) count_of(cluster) = 1;
  return HostOffset(first * cluster_size_);
}

HostOffset Refcounts::reserve(std::uint64_t clusters) {
  assert(clusters > 0);
  const std::uint64_t first = next_cluster_;
  next_cluster_ += clusters;
  make_blocks_up_to(next_cluster_ - 1);
  first_in_use_ = std::min(first_in_use_, first);
  reserve_end_ = next_cluster_;
  return HostOffset(first * cluster_size_);
}

void Refcounts::use(HostOffset from, std::uint64_t length) {
  const std::uint64_t first = from.value / cluster_size_;
  assert(length > 0 && first >= first_in_use_);
  first_in_use_ = first;
  for (std::uint64_t cluster = first; cluster <= (from.value + length - 1) / cluster_size_; ++cluster) {
    Refcount& count = count_of(cluster);
    count = static_cast<std::uint16_t>(count + 1);
  }
}

bool Refcounts::is_full(HostOffset offset) const {
  const std::uint64_t cluster = offset.value / cluster_size_;
  if (cluster / per_block_ - first_block_ >= blocks_.size()) return false;
  return blocks_[cluster / per_block_ - first_block_][cluster % per_block_] == std::numeric_limits<std::uint16_t>::max();
}

void Refcounts::close_reserve(HostOffset end_of_use) {
  const std::uint64_t first_unused = div_round_up(end_of_use.value, cluster_size_);
  if (reserve_end_ == next_cluster_ && first_in_use_ != kNoReserve) {
    next_cluster_ = first_unused;
    while (!blocks_.empty() && (first_block_ + blocks_.size() - 1) * per_block_ >= next_cluster_) blocks_.pop_back();
  }
  first_in_use_ = kNoReserve;
}

void Refcounts::write_full_blocks(WriteBatch& out) {
  while (!blocks_.empty() && (first_block_ + 1) * per_block_ <= std::min(next_cluster_, first_in_use_)) write_first_block(out);
}

// A block's own cluster is counted before the block is copied out: it may be one of those that the block itself counts. When
// it is not, the block was full, and the cluster has begun a new block behind it, which the loop reaches next.
void Refcounts::write_all_blocks(WriteBatch& out) {
  assert(first_in_use_ == kNoReserve);
  while (!blocks_.empty()) write_first_block(out);
}

void Refcounts::write_first_block(WriteBatch& out) {
  if (first_block_ >= table_.size()) throw FormatError("qcow2: refcount table full: larger clusters are needed");
  const HostOffset at = allocate(1);
  AlignedBytes bytes(cluster_size_);
  std::memcpy(bytes.data(), blocks_.front().data(), bytes.size());
  out.add_table(at, std::move(bytes));
  table_[first_block_] = at.value;
  ++first_block_;
  blocks_.pop_front();
}

AlignedBytes Refcounts::table_bytes() const {
  assert(blocks_.empty());
  AlignedBytes bytes(table_.size() * sizeof(Be64));
  std::memcpy(bytes.data(), table_.data(), bytes.size());
  return bytes;
}

}  // namespace nasbackup::qcow2
