// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Refcount table and refcount blocks of an image that only grows (specification, "Host cluster management"): host clusters
// are taken at the end of the file, and a block leaves as soon as none of the clusters that it counts can change, so that
// only a few are held however large the image is. Used by one thread at a time.
#pragma once

#include <deque>
#include <limits>
#include <vector>

#include "formats/qcow2_format.h"
#include "formats/write_batch.h"

namespace nasbackup::qcow2 {

class Refcounts {
 public:
  /// `table_clusters`: room kept in the file for the refcount table.
  Refcounts(std::uint64_t cluster_size, std::uint64_t table_clusters);

  /// Takes `clusters` neighbouring host clusters at the end of the file, each used once.
  HostOffset allocate(std::uint64_t clusters);
  /// Takes them unused: compressed clusters will be packed into them. Their blocks are held until close_reserve().
  HostOffset reserve(std::uint64_t clusters);
  /// One more use of each host cluster that `[from, from + length)` touches; nothing before `from`'s cluster is used again. To be
  /// called for reserved clusters only.
  void use(HostOffset from, std::uint64_t length);
  /// True when the cluster at `offset` cannot be used once more.
  bool is_full(HostOffset offset) const;
  /// No reserved cluster is used any more. What is unused at the end of the file, from `end_of_use` on, is given back.
  void close_reserve(HostOffset end_of_use);

  /// Appends the blocks that cannot change any more. Throws FormatError when the table is full.
  void write_full_blocks(WriteBatch& out);
  /// Appends all blocks; nothing may be allocated afterwards.
  void write_all_blocks(WriteBatch& out);
  /// The table's bytes, as large as the room kept for it; valid once all blocks are written.
  AlignedBytes table_bytes() const;

  std::uint64_t file_size() const noexcept { return next_cluster_ * cluster_size_; }
  std::size_t blocks_held() const noexcept { return blocks_.size(); }

 private:
  static constexpr std::uint64_t kNoReserve = std::numeric_limits<std::uint64_t>::max();
  Refcount& count_of(std::uint64_t cluster);
  void make_blocks_up_to(std::uint64_t cluster);
  void write_first_block(WriteBatch& out);

  std::uint64_t cluster_size_;
  std::uint64_t per_block_;
  std::uint64_t next_cluster_ = 0;
  std::uint64_t first_in_use_ = kNoReserve;   // reserved clusters from here on may still be used
  std::uint64_t reserve_end_ = 0;             // behind the last reserved cluster
  std::uint64_t first_block_ = 0;             // index of blocks_.front() in the table
  std::deque<std::vector<Refcount>> blocks_;  // blocks not yet written; they follow each other
  std::vector<Be64> table_;
};

}  // namespace nasbackup::qcow2
