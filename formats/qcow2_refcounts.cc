// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Refcounts of a growing image; see qcow2_refcounts.h.
#include "formats/qcow2_refcounts.h"

#include <cassert>
#include <cstring>
#include <limits>

#include "formats/format_error.h"

namespace nasbackup::qcow2 {

Refcounts::Refcounts(std::uint64_t cluster_size, std::uint64_t table_clusters)
    : cluster_size_(cluster_size),
      per_block_(refcounts_per_block(cluster_size)),
      table_(table_clusters * cluster_size / sizeof(Be64)) {}

HostOffset Refcounts::allocate(std::uint64_t clusters, std::uint16_t uses) {
  const std::uint64_t first = next_cluster_;
  next_cluster_ += clusters;
  for (std::uint64_t cluster = first; cluster < next_cluster_; ++cluster) {
    const std::uint64_t block = cluster / per_block_ - first_block_;
    if (block == blocks_.size()) blocks_.emplace_back(per_block_);
    blocks_[block][cluster % per_block_] = uses;
  }
  return HostOffset(first * cluster_size_);
}

void Refcounts::use(HostOffset from, std::uint64_t length) {
  for (std::uint64_t cluster = from.value / cluster_size_; cluster <= (from.value + length - 1) / cluster_size_; ++cluster) {
    Refcount& count = blocks_[cluster / per_block_ - first_block_][cluster % per_block_];
    assert(count < std::numeric_limits<std::uint16_t>::max());
    count = static_cast<std::uint16_t>(count + 1);
  }
}

void Refcounts::write_full_blocks(WriteBatch& out) {
  while (!blocks_.empty() && (first_block_ + 1) * per_block_ <= next_cluster_) write_first_block(out);
}

// A block's own cluster is counted before the block is copied out: it may be one of those that the block itself counts. When
// it is not, the block was full, and the cluster has begun a new block behind it, which the loop reaches next.
void Refcounts::write_all_blocks(WriteBatch& out) {
  while (!blocks_.empty()) write_first_block(out);
}

void Refcounts::write_first_block(WriteBatch& out) {
  if (first_block_ >= table_.size()) throw FormatError("qcow2: refcount table full: larger clusters are needed");
  const HostOffset at = allocate(1);
  std::vector<std::byte> bytes(cluster_size_);
  std::memcpy(bytes.data(), blocks_.front().data(), bytes.size());
  out.add_table(at, std::move(bytes));
  table_[first_block_] = at.value;
  ++first_block_;
  blocks_.pop_front();
}

std::vector<std::byte> Refcounts::table_bytes() const {
  assert(blocks_.empty());
  std::vector<std::byte> bytes(table_.size() * sizeof(Be64));
  std::memcpy(bytes.data(), table_.data(), bytes.size());
  return bytes;
}

}  // namespace nasbackup::qcow2
