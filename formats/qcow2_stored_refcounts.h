// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The refcounts as they stand in the image: their table, their blocks, and how they compare with the references that were found.
// Section "Host cluster management". Holds the refcount table (kMaxRefcountTableBytes at most) and one block. Used by one thread
// at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/qcow2_checked_image.h"

namespace nasbackup::qcow2 {

/// A refcount of 2^order bits; `block` is a whole refcount block.
std::uint64_t refcount_at(std::span<const std::byte> block, std::uint64_t index, unsigned order) noexcept;

void set_refcount(std::span<std::byte> block, std::uint64_t index, unsigned order, std::uint64_t count) noexcept;

class StoredRefcounts {
 public:
  /// Reads the table, reports what is wrong with it, and counts its clusters and those of the blocks.
  explicit StoredRefcounts(CheckedImage& image);

  /// Marks the clusters whose stored refcount is one: that is what COPIED flags promise.
  void mark_ones();
  /// False when the block with this cluster's refcount cannot be read, so that nothing can be said.
  bool is_known(std::uint64_t cluster) const noexcept {
    return state_of(image_.header.refcount_block_of(cluster)) != State::unreadable;
  }
  /// Reports each refcount that is not the number of references. To be called when all references are counted.
  void compare();
  /// The end of the last cluster that is referenced or has a refcount; of compare().
  std::uint64_t image_end() const noexcept { return image_end_; }
  /// How many refcounts compare() found wrong.
  std::uint64_t mismatches() const noexcept { return mismatches_; }

 private:
  enum class State : std::uint8_t { absent, readable, unreadable };

  State state_of(std::uint64_t block) const noexcept { return block < states_.size() ? states_[block] : State::absent; }
  void read_table();
  State take_block(std::uint64_t index);
  TableEntry table_entry(std::uint64_t index) const noexcept;
  void read_block(std::uint64_t index);
  void compare_block(std::uint64_t index);
  void compare_one(std::uint64_t block, std::uint64_t index, std::uint64_t stored);
  void repair_block(std::uint64_t index);
  bool may_set(std::uint64_t cluster, std::uint64_t stored, std::uint64_t references) const noexcept;
  std::uint64_t references_to(std::uint64_t cluster) const noexcept;
  void compare_without_block();
  void report_without_refcount(std::uint64_t cluster);
  void saw_in_use(std::uint64_t cluster) noexcept;

  CheckedImage& image_;
  std::uint64_t per_block_;
  std::vector<std::uint64_t> table_;  // as it stands in the image
  std::vector<State> states_;         // of the blocks
  std::vector<std::byte> block_;
  std::uint64_t image_end_ = 0;
  std::uint64_t mismatches_ = 0;
};

}  // namespace nasbackup::qcow2
