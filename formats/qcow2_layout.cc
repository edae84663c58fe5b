// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where the bytes of a qcow2 go; see qcow2_layout.h.
#include "formats/qcow2_layout.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "formats/qcow2_header.h"

namespace nasbackup::qcow2 {

namespace {

std::vector<std::byte> padded_bytes(const std::vector<Be64>& entries, std::uint64_t length) {
  std::vector<std::byte> bytes(length);
  if (!entries.empty()) std::memcpy(bytes.data(), entries.data(), entries.size() * sizeof(Be64));
  return bytes;
}

}  // namespace

Layout::Layout(const Geometry& geometry)
    : geometry_(geometry), refcounts_(geometry.cluster_size, geometry.refcount_table_clusters), l1_(geometry.l1_entries) {
  const HostOffset header = refcounts_.allocate(1);
  const HostOffset l1 = refcounts_.allocate(geometry.l1_clusters);
  const HostOffset table = refcounts_.allocate(geometry.refcount_table_clusters);
  assert(header.value == 0 && l1 == geometry.l1_offset && table == geometry.refcount_table_offset);
  (void)header, (void)l1, (void)table;
}

void Layout::store(GuestOffset at, std::span<const std::byte> data, WriteBatch& out) {
  const std::uint64_t size = geometry_.cluster_size;
  assert(at.value % size == 0 && data.size() % size == 0);
  std::uint64_t cluster = at.value / size;
  assert(cluster >= next_cluster_);  // rising guest order
  while (!data.empty()) {
    const std::uint64_t l1_index = cluster / l2_entries(size);
    const std::uint64_t last_of_l2 = (l1_index + 1) * l2_entries(size);
    const std::uint64_t run = std::min<std::uint64_t>(data.size() / size, last_of_l2 - cluster);
    enter_l2(l1_index, out);
    const HostOffset host = refcounts_.allocate(run);
    out.add(host, data.first(run * size));
    map_run(cluster, run, host);
    refcounts_.write_full_blocks(out);
    cluster += run;
    data = data.subspan(run * size);
  }
  next_cluster_ = cluster;
}

void Layout::map_run(std::uint64_t first_cluster, std::uint64_t clusters, HostOffset host) {
  for (std::uint64_t i = 0; i < clusters; ++i)
    l2_[(first_cluster + i) % l2_.size()] = (host.value + i * geometry_.cluster_size) | kEntryCopied;
}

void Layout::enter_l2(std::uint64_t l1_index, WriteBatch& out) {
  if (!l2_.empty() && l1_index == l1_index_) return;
  write_l2(out);
  l1_index_ = l1_index;
  l2_.assign(l2_entries(geometry_.cluster_size), 0u);
}

void Layout::write_l2(WriteBatch& out) {
  if (l2_.empty()) return;
  const HostOffset at = refcounts_.allocate(1);
  out.add_owned(at, padded_bytes(l2_, geometry_.cluster_size));
  l1_[l1_index_] = at.value | kEntryCopied;
  l2_.clear();
}

void Layout::write_tables(WriteBatch& out) {
  write_l2(out);
  refcounts_.write_all_blocks(out);
  out.add_owned(geometry_.l1_offset, padded_bytes(l1_, geometry_.l1_clusters * geometry_.cluster_size));
  out.add_owned(geometry_.refcount_table_offset, refcounts_.table_bytes());
}

void Layout::write_header(WriteBatch& out) { out.add_owned(HostOffset(0), header_cluster(geometry_)); }

}  // namespace nasbackup::qcow2
