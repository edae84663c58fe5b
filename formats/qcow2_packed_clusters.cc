// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Compressed clusters, packed; see qcow2_packed_clusters.h.
#include "formats/qcow2_packed_clusters.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace nasbackup::qcow2 {

namespace {

/// Groups are allocated in pieces of this size.
constexpr std::uint64_t kChunk = 256u << 10;

/// A group is a good sequential write from here on, and is placed as soon as its end wastes next to nothing …
constexpr std::uint64_t kGroup = 1u << 20;
constexpr std::uint64_t kWasteAllowed = 256;  ///< a part in so many
/// … or when it has grown to this, or to so many host clusters, whichever is more.
constexpr std::uint64_t kLargeGroup = 4u << 20;
constexpr std::uint64_t kLargeGroupClusters = 8;
/// All of a group's streams may touch one host cluster, whose refcount has 16 bits.
constexpr std::size_t kMostMembers = 65535;

constexpr std::uint64_t large_group(std::uint64_t cluster_size) noexcept {
  return std::max(kLargeGroup, kLargeGroupClusters * cluster_size);
}

}  // namespace

PackedClusters::PackedClusters(std::uint64_t cluster_size) noexcept : cluster_size_(cluster_size) {}

void PackedClusters::add(std::uint64_t guest_cluster, std::span<const std::byte> stream) {
  assert(!stream.empty() && stream.size() < cluster_size_);
  members_.push_back({guest_cluster, size_, stream.size()});
  copy(stream);
}

void PackedClusters::copy(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (size_ == chunks_.size() * kChunk) chunks_.emplace_back(kChunk);
    const std::uint64_t within = size_ % kChunk;
    const std::uint64_t length = std::min<std::uint64_t>(bytes.size(), kChunk - within);
    std::memcpy(chunks_.back().data() + within, bytes.data(), length);
    size_ += length;
    bytes = bytes.subspan(length);
  }
}

bool PackedClusters::is_due() const noexcept {
  const std::uint64_t waste = round_up(size_, cluster_size_) - size_;
  if (size_ >= kGroup && waste <= size_ / kWasteAllowed) return true;
  return size_ >= large_group(cluster_size_) || members_.size() == kMostMembers;
}

std::uint64_t PackedClusters::largest_group(std::uint64_t cluster_size) noexcept {
  return large_group(cluster_size) + cluster_size;
}

std::vector<PackedClusters::Placed> PackedClusters::place(Refcounts& refcounts, WriteBatch& out) {
  if (members_.empty()) return {};
  const HostOffset start = refcounts.allocate(div_round_up(size_, cluster_size_), 0);
  std::vector<Placed> placed;
  for (const Member& member : members_) {
    placed.push_back({member.guest_cluster, start + member.begin, member.length});
    refcounts.use(start + member.begin, member.length);
  }
  const std::uint64_t end = round_up(size_, cluster_size_);
  while (chunks_.size() * kChunk < end) chunks_.emplace_back(kChunk);
  for (std::size_t i = 0; i < chunks_.size(); ++i)
    out.add_owned(start + i * kChunk, std::move(chunks_[i]), std::min(kChunk, end - i * kChunk), Content::guest_data);
  chunks_.clear();
  members_.clear();
  size_ = 0;
  return placed;
}

}  // namespace nasbackup::qcow2
