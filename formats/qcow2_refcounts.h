// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Refcount table and refcount blocks of an image that only grows (specification, "Host cluster management"): host clusters
// are taken at the end of the file, and a block leaves as soon as the file has grown past the clusters it counts, so that
// only a few are held however large the image is. Used by one thread at a time.
#pragma once

#include <deque>
#include <vector>

#include "formats/qcow2_format.h"
#include "formats/write_batch.h"

namespace nasbackup::qcow2 {

class Refcounts {
 public:
  /// `table_clusters`: room kept in the file for the refcount table.
  Refcounts(std::uint64_t cluster_size, std::uint64_t table_clusters);

  /// Takes `clusters` neighbouring host clusters at the end of the file, each used once; or not yet (`uses` 0).
  HostOffset allocate(std::uint64_t clusters, std::uint16_t uses = 1);
  /// One more use of each host cluster that `[from, from + length)` touches. No block may have been written since they were
  /// taken.
  void use(HostOffset from, std::uint64_t length);
  /// Appends the blocks whose clusters all lie before the file's end. Throws FormatError when the table is full.
  void write_full_blocks(WriteBatch& out);
  /// Appends all blocks; nothing may be allocated afterwards.
  void write_all_blocks(WriteBatch& out);
  /// The table's bytes, as large as the room kept for it; valid once all blocks are written.
  std::vector<std::byte> table_bytes() const;

  std::uint64_t file_size() const noexcept { return next_cluster_ * cluster_size_; }
  std::size_t blocks_held() const noexcept { return blocks_.size(); }

 private:
  void write_first_block(WriteBatch& out);

  std::uint64_t cluster_size_;
  std::uint64_t per_block_;
  std::uint64_t next_cluster_ = 0;
  std::uint64_t first_block_ = 0;             // index of blocks_.front() in the table
  std::deque<std::vector<Refcount>> blocks_;  // blocks not yet written; they follow each other
  std::vector<Be64> table_;
};

}  // namespace nasbackup::qcow2
