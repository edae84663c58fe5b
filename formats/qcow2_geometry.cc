// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Sizes that follow from sizes; see qcow2_geometry.h.
#include "formats/qcow2_geometry.h"

#include <algorithm>
#include <bit>
#include <string>

#include "formats/format_error.h"
#include "formats/qcow2_format.h"

namespace nasbackup::qcow2 {

namespace {

unsigned cluster_bits_of(std::uint64_t cluster_size) {
  const bool known =
      std::has_single_bit(cluster_size) && cluster_size >= (1u << kMinClusterBits) && cluster_size <= (1u << kMaxClusterBits);
  if (!known)
    throw FormatError("qcow2: cluster size: " + std::to_string(cluster_size) + ", must be a power of two from 512 to 2097152");
  return static_cast<unsigned>(std::countr_zero(cluster_size));
}

// Table and blocks count themselves, so their number is a fixed point; each round adds less than the one before.
std::uint64_t refcount_table_clusters_for(std::uint64_t other_clusters, std::uint64_t cluster_size) {
  const std::uint64_t per_block = refcounts_per_block(cluster_size);
  std::uint64_t table = 1;
  for (;;) {
    std::uint64_t blocks = div_round_up(other_clusters + table, per_block);
    blocks = div_round_up(other_clusters + table + blocks, per_block) + 1;
    const std::uint64_t needed = div_round_up(blocks * sizeof(Be64), cluster_size);
    if (needed <= table) return std::min(table, kMaxRefcountTableBytes / cluster_size);
    table = needed;
  }
}

}  // namespace

Geometry Geometry::of(std::uint64_t size, std::uint64_t cluster_size, std::uint64_t luks_bytes) {
  Geometry g{};
  g.cluster_bits = cluster_bits_of(cluster_size);
  g.cluster_size = cluster_size;
  constexpr std::uint64_t kMaxSize = std::uint64_t{1} << 62;  // keeps every sum below free of overflow
  if (size > kMaxSize) throw FormatError("qcow2: virtual size: " + std::to_string(size) + " bytes is too large");
  g.virtual_size = round_up(size, kSectorSize);
  g.guest_clusters = div_round_up(g.virtual_size, cluster_size);
  g.l1_entries = div_round_up(g.guest_clusters, l2_entries(cluster_size));
  if (g.l1_entries * sizeof(Be64) > kMaxL1Bytes)
    throw FormatError("qcow2: virtual size: " + std::to_string(size) + " bytes is too large for clusters of " +
                      std::to_string(cluster_size) + " bytes");
  g.l1_clusters = div_round_up(g.l1_entries * sizeof(Be64), cluster_size);
  g.luks_bytes = luks_bytes;
  g.luks_clusters = div_round_up(luks_bytes, cluster_size);
  const std::uint64_t others = 1 + g.l1_clusters + g.luks_clusters + g.l1_entries;
  g.refcount_table_clusters = refcount_table_clusters_for(others + g.guest_clusters, cluster_size);
  g.l1_offset = HostOffset(cluster_size);
  g.refcount_table_offset = g.l1_offset + g.l1_clusters * cluster_size;
  g.luks_offset = g.refcount_table_offset + g.refcount_table_clusters * cluster_size;
  return g;
}

}  // namespace nasbackup::qcow2
