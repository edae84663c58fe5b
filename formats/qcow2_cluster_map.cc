// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_cluster_map.h.
#include "formats/qcow2_cluster_map.h"

#include <string>

#include "formats/format_error.h"

namespace nasbackup::qcow2 {

namespace {

constexpr std::size_t kOverflowEntryBytes = 64;  // a node of the table, its bucket and what the allocator adds

[[noreturn]] void refuse_memory(std::size_t most_bytes) {
  throw FormatError("check: the references are scattered so widely that counting them takes more than " +
                    std::to_string(most_bytes >> 20) + " MiB of memory");
}

std::uint64_t bounded(std::uint64_t clusters) {
  if (clusters > ClusterMap::kMostClusters)
    throw FormatError("check: file: " + std::to_string(clusters) + " clusters, at most " +
                      std::to_string(ClusterMap::kMostClusters) + " can be checked");
  return clusters;
}

}  // namespace

ClusterMap::ClusterMap(std::uint64_t clusters, std::size_t most_bytes)
    : clusters_(bounded(clusters)), most_bytes_(most_bytes), blocks_(clusters_ / kBlockClusters + 1) {}

ClusterMap::Block& ClusterMap::make_block(std::unique_ptr<Block>& block) {
  bytes_ += sizeof(Block);
  if (bytes_ > most_bytes_) refuse_memory(most_bytes_);
  block = std::make_unique<Block>();
  return *block;
}

void ClusterMap::overflow(std::uint64_t cluster, std::uint8_t& kept, std::uint64_t count) {
  const auto [entry, made] = more_.try_emplace(cluster, 0);
  if (made) bytes_ += kOverflowEntryBytes;
  if (bytes_ > most_bytes_) refuse_memory(most_bytes_);
  entry->second += count - (kOverflow - static_cast<std::uint64_t>(kept));
  kept = kOverflow;
}

std::uint64_t ClusterMap::references(std::uint64_t cluster) const noexcept {
  const Block* block = blocks_[cluster / kBlockClusters].get();
  if (block == nullptr) return 0;
  const std::uint8_t kept = block->references[cluster % kBlockClusters];
  return kept < kOverflow ? kept : kOverflow + more_.at(cluster);
}

}  // namespace nasbackup::qcow2
