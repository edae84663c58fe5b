// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a check knows of each host cluster: how many references to it were found, and what it was found to be. One byte and four
// bits for each cluster, in blocks that exist only where something was found; counts beyond a byte go on in a table of their
// own. A 16 TiB image of 64 KiB clusters takes 384 MiB. Used by one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace nasbackup::qcow2 {

enum class Mark : std::size_t {
  metadata,    ///< holds tables, or a header
  plain,       ///< holds a guest cluster of the active L1 table
  packed,      ///< holds compressed clusters
  stored_one,  ///< its refcount in the file is one
};

class ClusterMap {
 public:
  static constexpr std::uint64_t kMostClusters = std::uint64_t{1} << 36;
  static constexpr std::size_t kMostBytes = std::size_t{1} << 30;
  static constexpr std::uint64_t kBlockClusters = 1u << 16;

  /// What so many clusters take at most, when each has few references.
  static constexpr std::uint64_t bytes_for(std::uint64_t clusters) noexcept {
    return (clusters / kBlockClusters + 2) * (sizeof(Block) + sizeof(void*));
  }
  /// Throws FormatError for more clusters than there can be memory for.
  explicit ClusterMap(std::uint64_t clusters, std::size_t most_bytes = kMostBytes);

  /// All clusters that are asked for or changed are below it.
  std::uint64_t clusters() const noexcept { return clusters_; }
  /// Throws FormatError when that would take more memory than `most_bytes`.
  void add_references(std::uint64_t cluster, std::uint64_t count) {
    std::uint8_t& kept = block(cluster).references[cluster % kBlockClusters];
    if (count < kOverflow - static_cast<std::uint64_t>(kept))
      kept = static_cast<std::uint8_t>(kept + count);
    else
      overflow(cluster, kept, count);
  }
  std::uint64_t references(std::uint64_t cluster) const noexcept;

  /// Whether it had the mark already. Throws as add_references does.
  bool mark(std::uint64_t cluster, Mark mark) {
    std::uint64_t& word = block(cluster).marks[static_cast<std::size_t>(mark)][cluster % kBlockClusters / 64];
    const std::uint64_t bit = std::uint64_t{1} << cluster % 64;
    const bool had = (word & bit) != 0;
    word |= bit;
    return had;
  }
  bool has(std::uint64_t cluster, Mark mark) const noexcept {
    const Block* block = blocks_[cluster / kBlockClusters].get();
    return block != nullptr &&
           (block->marks[static_cast<std::size_t>(mark)][cluster % kBlockClusters / 64] >> cluster % 64 & 1) != 0;
  }
  /// False: no cluster of this block (cluster / kBlockClusters) has a reference or a mark.
  bool knows_block(std::uint64_t index) const noexcept { return index < blocks_.size() && blocks_[index] != nullptr; }

 private:
  static constexpr std::uint8_t kOverflow = 255;  // and the table says how many more

  struct Block {
    std::array<std::uint8_t, kBlockClusters> references{};
    std::array<std::array<std::uint64_t, kBlockClusters / 64>, 4> marks{};
  };

  Block& block(std::uint64_t cluster) {
    std::unique_ptr<Block>& block = blocks_[cluster / kBlockClusters];
    return block == nullptr ? make_block(block) : *block;
  }
  Block& make_block(std::unique_ptr<Block>& block);
  void overflow(std::uint64_t cluster, std::uint8_t& kept, std::uint64_t count);

  std::uint64_t clusters_;
  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unordered_map<std::uint64_t, std::uint64_t> more_;
};

}  // namespace nasbackup::qcow2
