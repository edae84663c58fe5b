// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Compressed clusters, packed; see qcow2_compressed_area.h.
#include "formats/qcow2_compressed_area.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace nasbackup::qcow2 {

namespace {

/// A chunk is large enough for a sequential write, and whole pages of the file however small the clusters are.
constexpr std::uint64_t kChunk = 256u << 10;

/// An area ends with less than a cluster unused: of 64 clusters that is under one in a hundred. Large clusters make do with
/// fewer, lest a small image carry megabytes of nothing.
constexpr std::uint64_t kAreaBytes = 4u << 20;
constexpr std::uint64_t kMostClusters = 64;
constexpr std::uint64_t kFewestClusters = 4;

}  // namespace

CompressedArea::CompressedArea(Refcounts& refcounts, std::uint64_t cluster_size) noexcept
    : refcounts_(refcounts), cluster_size_(cluster_size), next_clusters_(kFewestClusters) {}

std::uint64_t CompressedArea::most_clusters(std::uint64_t cluster_size) noexcept {
  return std::clamp(kAreaBytes / cluster_size, kFewestClusters, kMostClusters);
}

HostOffset CompressedArea::append(std::span<const std::byte> stream, WriteBatch& out) {
  assert(!stream.empty() && stream.size() < cluster_size_);
  if (at_ < end_ && refcounts_.is_full(HostOffset(at_))) fill_up_cluster(out);
  if (stream.size() > end_ - at_) make_room(stream.size(), out);
  const HostOffset offset(at_);
  refcounts_.use(offset, stream.size());
  copy(stream, out);
  return offset;
}

void CompressedArea::make_room(std::uint64_t length, WriteBatch& out) {
  const HostOffset more = refcounts_.reserve(next_clusters_);
  if (more.value != end_) {  // something else lies between: this area ends here
    fill_up_cluster(out);
    if (at_ > chunk_start_) write_chunk(out);
    at_ = chunk_start_ = more.value;
  }
  end_ = more.value + next_clusters_ * cluster_size_;
  next_clusters_ = std::min(2 * next_clusters_, most_clusters(cluster_size_));
  assert(length <= end_ - at_);
  (void)length;
}

std::uint64_t CompressedArea::chunk_end() const noexcept { return round_down(chunk_start_, kChunk) + kChunk; }

void CompressedArea::copy(std::span<const std::byte> bytes, WriteBatch& out) {
  while (!bytes.empty()) {
    if (chunk_.size() == 0) chunk_ = AlignedBytes(kChunk);
    const std::uint64_t length = std::min<std::uint64_t>(bytes.size(), chunk_end() - at_);
    std::memcpy(chunk_.data() + (at_ - chunk_start_), bytes.data(), length);
    at_ += length;
    bytes = bytes.subspan(length);
    if (at_ == chunk_end()) write_chunk(out);
  }
}

void CompressedArea::write_chunk(WriteBatch& out) {
  out.add_owned(HostOffset(chunk_start_), std::exchange(chunk_, {}), at_ - chunk_start_, Content::guest_data);
  chunk_start_ = at_;
}

// A chunk is zero where nothing was copied.
void CompressedArea::fill_up_cluster(WriteBatch& out) {
  const std::uint64_t target = round_up(at_, cluster_size_);
  while (at_ < target) {
    if (chunk_.size() == 0) chunk_ = AlignedBytes(kChunk);
    at_ = std::min(target, chunk_end());
    if (at_ == chunk_end()) write_chunk(out);
  }
}

void CompressedArea::close(WriteBatch& out) {
  if (end_ == 0) return;
  fill_up_cluster(out);
  if (at_ > chunk_start_) write_chunk(out);
  refcounts_.close_reserve(HostOffset(at_));
  at_ = end_ = chunk_start_ = 0;
}

}  // namespace nasbackup::qcow2
