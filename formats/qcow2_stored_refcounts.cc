// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_stored_refcounts.h.
#include "formats/qcow2_stored_refcounts.h"

#include <algorithm>
#include <cstring>

#include "formats/qcow2_format.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

template <class T>
std::uint64_t load(std::span<const std::byte> block, std::uint64_t index) noexcept {
  T value;
  std::memcpy(static_cast<void*>(&value), block.data() + index * sizeof value, sizeof value);
  return value;
}

/// Refcounts of less than a byte: the first one has the lowest bits.
std::uint64_t load_bits(std::span<const std::byte> block, std::uint64_t index, unsigned order) noexcept {
  const unsigned bits = 1u << order;
  const std::uint64_t per_byte = 8 / bits;
  const unsigned byte = std::to_integer<unsigned>(block[index / per_byte]);
  return byte >> index % per_byte * bits & ((1u << bits) - 1);
}

template <class T>
void store(std::span<std::byte> block, std::uint64_t index, T value) noexcept {
  std::memcpy(block.data() + index * sizeof value, static_cast<const void*>(&value), sizeof value);
}

void store_bits(std::span<std::byte> block, std::uint64_t index, unsigned order, std::uint64_t count) noexcept {
  const unsigned bits = 1u << order;
  const std::uint64_t per_byte = 8 / bits;
  const auto shift = static_cast<unsigned>(index % per_byte * bits);
  const std::byte mask{static_cast<unsigned char>(((1u << bits) - 1) << shift)};
  std::byte& byte = block[index / per_byte];
  byte = (byte & ~mask) | (std::byte{static_cast<unsigned char>(count << shift)} & mask);
}

}  // namespace

void set_refcount(std::span<std::byte> block, std::uint64_t index, unsigned order, std::uint64_t count) noexcept {
  switch (order) {
    case 3:
      block[index] = std::byte{static_cast<unsigned char>(count)};
      return;
    case 4:
      return store(block, index, Be16(static_cast<std::uint16_t>(count)));
    case 5:
      return store(block, index, Be32(static_cast<std::uint32_t>(count)));
    case 6:
      return store(block, index, Be64(count));
    default:
      return store_bits(block, index, order, count);
  }
}

std::uint64_t refcount_at(std::span<const std::byte> block, std::uint64_t index, unsigned order) noexcept {
  switch (order) {
    case 3:
      return std::to_integer<std::uint64_t>(block[index]);
    case 4:
      return load<Be16>(block, index);
    case 5:
      return load<Be32>(block, index);
    case 6:
      return load<Be64>(block, index);
    default:
      return load_bits(block, index, order);
  }
}

StoredRefcounts::StoredRefcounts(CheckedImage& image)
    : image_(image), per_block_(image.header.refcounts_per_block()), block_(image.header.cluster_size) {
  read_table();
  states_.resize(table_.size());
  for (std::uint64_t i = 0; i < table_.size(); ++i) states_[i] = take_block(i);
}

void StoredRefcounts::read_table() {
  const CheckHeader& header = image_.header;
  const TableEntry pointer{Table::header, 0, header.refcount_table_offset, offsetof(Header, refcount_table_offset)};
  const std::uint64_t bytes = header.refcount_table_clusters * header.cluster_size;
  if (bytes == 0)
    return image_.findings.corrupt({Table::header, 0, 0, offsetof(Header, refcount_table_clusters)},
                                   "there is no refcount table");
  image_.claim_metadata(pointer, header.refcount_table_offset, bytes);
  std::vector<Be64> table(image_.words_in_file(header.refcount_table_offset, bytes / sizeof(Be64)));
  image_.read(header.refcount_table_offset, std::as_writable_bytes(std::span(table)));
  table_.assign(table.begin(), table.end());
}

TableEntry StoredRefcounts::table_entry(std::uint64_t index) const noexcept {
  return {Table::refcount_table, index, table_[index], image_.header.refcount_table_offset + index * sizeof(Be64)};
}

// A block that two entries name is read once: what time a check takes must follow from the size of the file.
StoredRefcounts::State StoredRefcounts::take_block(std::uint64_t index) {
  const std::uint64_t offset = table_[index] & ~kRefcountTableReserved;
  if ((table_[index] & kRefcountTableReserved) != 0) {
    image_.findings.corrupt(table_entry(index), "reserved bits are set");
    return State::unreadable;
  }
  if (offset == 0) return State::absent;
  if (!image_.header.is_aligned(offset)) {
    image_.findings.corrupt(table_entry(index), "the refcount block is not aligned to a cluster");
    return State::unreadable;
  }
  return image_.claim_metadata(table_entry(index), offset, image_.header.cluster_size) ? State::readable : State::unreadable;
}

void StoredRefcounts::read_block(std::uint64_t index) { image_.read(table_[index], block_); }

void StoredRefcounts::mark_ones() {
  const unsigned order = image_.header.refcount_order;
  for (std::uint64_t i = 0; i < table_.size(); ++i) {
    if (states_[i] != State::readable) continue;
    read_block(i);
    const std::uint64_t first = i * per_block_;
    const std::uint64_t end = std::min(first + per_block_, image_.map.clusters());
    for (std::uint64_t cluster = first; cluster < end; ++cluster)
      if (refcount_at(block_, cluster - first, order) == 1) image_.map.mark(cluster, Mark::stored_one);
  }
}

// A refcount behind the file is reported, but does not make the image longer.
void StoredRefcounts::saw_in_use(std::uint64_t cluster) noexcept {
  if (cluster + 1 < image_.map.clusters() || references_to(cluster) > 0)
    image_end_ = std::max(image_end_, (cluster + 1) * image_.header.cluster_size);
}

void StoredRefcounts::compare() {
  for (std::uint64_t i = 0; i < table_.size(); ++i)
    if (states_[i] == State::readable) compare_block(i);
  compare_without_block();
}

void StoredRefcounts::compare_block(std::uint64_t index) {
  read_block(index);
  const unsigned order = image_.header.refcount_order;
  for (std::uint64_t i = 0; i < per_block_; ++i) compare_one(index, i, refcount_at(block_, i, order));
  if (image_.repairs(RepairRound::leaks) || image_.repairs(RepairRound::refcounts)) repair_block(index);
}

std::uint64_t StoredRefcounts::references_to(std::uint64_t cluster) const noexcept {
  return cluster < image_.map.clusters() ? image_.map.references(cluster) : 0;
}

/// Not where something else lies on the block: it would be overwritten.
void StoredRefcounts::repair_block(std::uint64_t index) {
  if (references_to(image_.header.cluster_of(table_[index])) != 1) return;
  const unsigned order = image_.header.refcount_order;
  std::vector<std::byte> right = block_;
  for (std::uint64_t i = 0; i < per_block_; ++i) {
    const std::uint64_t references = references_to(index * per_block_ + i);
    if (may_set(index * per_block_ + i, refcount_at(block_, i, order), references)) set_refcount(right, i, order, references);
  }
  image_.replace(table_[index], block_, right);
}

bool StoredRefcounts::may_set(std::uint64_t cluster, std::uint64_t stored, std::uint64_t references) const noexcept {
  if (stored < references) return image_.repairs(RepairRound::refcounts) && references <= image_.header.largest_refcount();
  if (image_.references_outside && cluster >= div_round_up(image_.file_size, image_.header.cluster_size)) return false;
  return stored > references && !image_.references_unknown && image_.findings.count(FindingKind::check_error) == 0;
}

void StoredRefcounts::compare_one(std::uint64_t block, std::uint64_t index, std::uint64_t stored) {
  const std::uint64_t cluster = block * per_block_ + index;
  const std::uint64_t references = references_to(cluster);
  if (stored == 0 && references == 0) return;
  saw_in_use(cluster);
  if (stored == references) return;
  ++mismatches_;
  const std::uint64_t bits = index << image_.header.refcount_order;
  const TableEntry entry{Table::refcount_block, index, stored, table_[block] + bits / 8};
  image_.findings.add_mismatch(stored < references ? FindingKind::corruption : FindingKind::leak, entry, cluster, references);
}

/// Where there is no refcount block, every refcount is zero. Blocks that cannot be read were reported.
void StoredRefcounts::compare_without_block() {
  const std::uint64_t map_blocks = image_.map.clusters() / ClusterMap::kBlockClusters + 1;
  for (std::uint64_t b = 0; b < map_blocks; ++b) {
    if (!image_.map.knows_block(b)) continue;
    const std::uint64_t end = std::min((b + 1) * ClusterMap::kBlockClusters, image_.map.clusters());
    for (std::uint64_t cluster = b * ClusterMap::kBlockClusters; cluster < end;) {
      const std::uint64_t block_end = std::min(end, (cluster / per_block_ + 1) * per_block_);
      const bool absent = state_of(image_.header.refcount_block_of(cluster)) == State::absent;
      for (; absent && cluster < block_end; ++cluster) report_without_refcount(cluster);
      cluster = block_end;
    }
  }
}

void StoredRefcounts::report_without_refcount(std::uint64_t cluster) {
  const std::uint64_t references = image_.map.references(cluster);
  if (references == 0) return;
  saw_in_use(cluster);
  ++mismatches_;
  const std::uint64_t index = cluster / per_block_;
  const TableEntry entry{Table::refcount_table, index, 0, image_.header.refcount_table_offset + index * sizeof(Be64)};
  image_.findings.add_mismatch(FindingKind::corruption, entry, cluster, references);
}

}  // namespace nasbackup::qcow2
