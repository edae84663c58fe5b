// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where the bytes of a qcow2 go; see qcow2_layout.h.
#include "formats/qcow2_layout.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "formats/format_error.h"
#include "formats/qcow2_header.h"

namespace nasbackup::qcow2 {

namespace {

std::vector<std::byte> table_bytes(const std::vector<Be64>& entries, std::uint64_t length) {
  std::vector<std::byte> bytes(length);
  if (!entries.empty()) std::memcpy(bytes.data(), entries.data(), entries.size() * sizeof(Be64));
  return bytes;
}

}  // namespace

Layout::Layout(const Geometry& geometry, CompressionType compression, std::string backing)
    : geometry_(geometry),
      compression_(compression),
      backing_(std::move(backing)),
      refcounts_(geometry.cluster_size, geometry.refcount_table_clusters),
      packed_(geometry.cluster_size),
      l1_(geometry.l1_entries) {
  const HostOffset header = refcounts_.allocate(1);
  const HostOffset l1 = refcounts_.allocate(geometry.l1_clusters);
  const HostOffset table = refcounts_.allocate(geometry.refcount_table_clusters);
  const HostOffset luks = refcounts_.allocate(geometry.luks_clusters);
  assert(header.value == 0 && l1 == geometry.l1_offset && table == geometry.refcount_table_offset &&
         luks == geometry.luks_offset);
  (void)header, (void)l1, (void)table, (void)luks;
  require_room_for(geometry, backing_);
}

void Layout::store(const EncodedRun& run, WriteBatch& out) {
  const std::uint64_t cluster = run.at.value / geometry_.cluster_size;
  assert(run.at.value % geometry_.cluster_size == 0 && cluster >= next_cluster_);  // rising guest order
  if (run.compressed)
    store_compressed(cluster, run.bytes, out);
  else
    store_plain(cluster, run.bytes, out);
}

void Layout::store_plain(std::uint64_t cluster, std::span<std::byte> data, WriteBatch& out) {
  const std::uint64_t size = geometry_.cluster_size;
  assert(data.size() % size == 0);
  while (!data.empty()) {
    const std::uint64_t l1_index = cluster / l2_entries(size);
    const std::uint64_t last_of_l2 = (l1_index + 1) * l2_entries(size);
    const std::uint64_t run = std::min<std::uint64_t>(data.size() / size, last_of_l2 - cluster);
    enter_l2(l1_index, out);
    const HostOffset host = refcounts_.allocate(run);
    out.add(host, data.first(run * size), Content::guest_data);
    map_run(cluster, run, host);
    refcounts_.write_full_blocks(out);
    cluster += run;
    data = data.subspan(run * size);
  }
  next_cluster_ = cluster;
}

void Layout::store_compressed(std::uint64_t cluster, std::span<const std::byte> stream, WriteBatch& out) {
  assert(geometry_.luks_clusters == 0);
  enter_l2(cluster / l2_entries(geometry_.cluster_size), out);
  packed_.add(cluster, stream);
  if (packed_.is_due()) place_packed(out);
  next_cluster_ = cluster + 1;
}

// Specification, "Compressed Clusters Descriptor": the number of sectors is that of those beyond the first.
void Layout::place_packed(WriteBatch& out) {
  const unsigned offset_bits = compressed_offset_bits(geometry_.cluster_bits);
  for (const PackedClusters::Placed& placed : packed_.place(refcounts_, out)) {
    const std::uint64_t first = placed.at.value, last = first + placed.length - 1;
    if (last >> std::min(offset_bits, 56u) != 0) throw FormatError("qcow2: file too large for compressed clusters");
    const std::uint64_t more_sectors = last / kCompressedSector - first / kCompressedSector;
    l2_[placed.guest_cluster % l2_.size()] = kEntryCompressed | (more_sectors << offset_bits) | first;
  }
  refcounts_.write_full_blocks(out);
}

// What is not allocated reads as in the backing file, and as zero where there is none.
void Layout::skip(GuestRange range, Absent as, WriteBatch& out) {
  assert(as == Absent::zero || !backing_.empty());
  const std::uint64_t size = geometry_.cluster_size;
  const std::uint64_t first = range.start.value / size, end = div_round_up(range.end().value, size);
  assert(range.start.value % size == 0 && first >= next_cluster_);
  if (as == Absent::zero && !backing_.empty()) store_zeroes(first, end - first, out);
  next_cluster_ = end;
}

// Zero clusters without a place of their own (specification, "Standard Cluster Descriptor", bit 0).
void Layout::store_zeroes(std::uint64_t cluster, std::uint64_t clusters, WriteBatch& out) {
  const std::uint64_t in_table = l2_entries(geometry_.cluster_size), end = cluster + clusters;
  while (cluster < end) {
    const std::uint64_t last = std::min(end, round_down(cluster, in_table) + in_table);
    enter_l2(cluster / in_table, out);
    for (; cluster < last; ++cluster) l2_[cluster % in_table] = kEntryZero;
    refcounts_.write_full_blocks(out);
  }
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
  place_packed(out);
  const HostOffset at = refcounts_.allocate(1);
  out.add_table(at, table_bytes(l2_, geometry_.cluster_size));
  l1_[l1_index_] = at.value | kEntryCopied;
  l2_.clear();
}

void Layout::write_tables(WriteBatch& out) {
  write_l2(out);
  refcounts_.write_all_blocks(out);
  out.add_table(geometry_.l1_offset, table_bytes(l1_, geometry_.l1_clusters * geometry_.cluster_size));
  out.add_table(geometry_.refcount_table_offset, refcounts_.table_bytes());
}

void Layout::write_header(WriteBatch& out) { out.add_table(HostOffset(0), header_cluster(geometry_, compression_, backing_)); }

}  // namespace nasbackup::qcow2
