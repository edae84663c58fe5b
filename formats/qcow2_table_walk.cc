// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_table_walk.h.
#include "formats/qcow2_table_walk.h"

#include <algorithm>
#include <bit>
#include <string>
#include <tuple>

#include "formats/format_error.h"
#include "formats/qcow2_compressed_range.h"
#include "formats/qcow2_format.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

constexpr std::size_t kMostReferences = std::size_t{1}
                                        << 24;  // 256 MiB of them; 16 TiB of 64 KiB clusters have 32768 per snapshot

constexpr std::uint64_t l2_offset_of(std::uint64_t l1_entry) noexcept { return l1_entry & kEntryOffsetMask; }

}  // namespace

// ---- L1 ---------------------------------------------------------------------------------------------------------------------

void TableWalk::take_l1_tables(const std::vector<L1Table>& tables) {
  l1_tables_ = tables;
  for (std::uint32_t i = 0; i < l1_tables_.size(); ++i) take_l1(l1_tables_[i], i);
  claim_l2_tables();
}

// A snapshot's table that overlaps other metadata is not read: a thousand of them may lie on the same bytes.
void TableWalk::take_l1(const L1Table& table, std::uint32_t number) {
  const std::uint64_t bytes = std::uint64_t{table.entries} * sizeof(Be64);
  if (bytes == 0) return;
  const bool claimed = image_.claim_metadata(table.pointer, table.offset, bytes);
  if (!claimed) image_.references_unknown = true;
  if (!claimed && !table.active) return;
  words_.resize(image_.words_in_file(table.offset, table.entries));
  image_.read(table.offset, std::as_writable_bytes(std::span(words_)));
  for (std::uint32_t i = 0; i < words_.size(); ++i)
    if (words_[i] != 0) take_l1_entry({words_[i], number, i});
}

TableEntry TableWalk::l1_entry(const Reference& reference) const {
  const L1Table& table = l1_tables_[reference.table];
  return {table.active ? Table::l1_table : Table::snapshot_l1_table, reference.index, reference.value,
          table.offset + std::uint64_t{reference.index} * sizeof(Be64)};
}

void TableWalk::take_l1_entry(const Reference& reference) {
  if ((reference.value & kL1Reserved) != 0) image_.findings.corrupt(l1_entry(reference), "reserved bits are set");
  if (l2_offset_of(reference.value) == 0)
    return image_.findings.corrupt(l1_entry(reference), "names no L2 table, but is not zero");
  if (!image_.header.is_aligned(l2_offset_of(reference.value))) {
    image_.findings.corrupt(l1_entry(reference), "the L2 table is not aligned to a cluster");
    image_.references_unknown = true;
    return;
  }
  if (references_.size() == kMostReferences)
    throw FormatError("check: the L1 tables name more than " + std::to_string(kMostReferences) + " L2 tables");
  references_.push_back(reference);
}

void TableWalk::claim_l2_tables() {
  std::sort(references_.begin(), references_.end(), [](const Reference& a, const Reference& b) {
    return std::tuple(l2_offset_of(a.value), a.table, a.index) < std::tuple(l2_offset_of(b.value), b.table, b.index);
  });
  for (auto first = references_.begin(); first != references_.end();) {
    const std::uint64_t offset = l2_offset_of(first->value);
    const auto end = std::find_if(first, references_.end(), [&](const Reference& r) { return l2_offset_of(r.value) != offset; });
    claim_group({first, end});
    first = end;
  }
}

/// All L1 entries that name one L2 table; several snapshots may, one L1 table only once.
void TableWalk::claim_group(std::span<const Reference> group) {
  const std::uint64_t offset = l2_offset_of(group.front().value);
  if (!image_.claim_metadata(l1_entry(group.front()), offset, image_.header.cluster_size, group.size()) &&
      image_.is_far_outside(offset, image_.header.cluster_size)) {
    image_.references_unknown = true;
    return;
  }
  const auto same = [](const Reference& a, const Reference& b) { return a.table == b.table; };
  if (const auto twice = std::adjacent_find(group.begin(), group.end(), same); twice != group.end())
    image_.findings.corrupt(l1_entry(*(twice + 1)), "the same L2 table as that of entry " + std::to_string(twice->index));
  l2_tables_.push_back({.offset = offset,
                        .references = group.size(),
                        .active = group.front().table == 0,
                        .first_guest_offset = group.front().index * image_.header.l2_reach()});
}

// ---- L2 ---------------------------------------------------------------------------------------------------------------------

void TableWalk::walk_l2_tables() {
  for (const Reference& reference : references_)
    if (reference.table == 0) check_copied(l1_entry(reference), l2_offset_of(reference.value));
  references_ = {};
  repair_l1();
  words_.resize(image_.header.cluster_size / sizeof(Be64));
  for (const L2Table& table : l2_tables_) walk(table);
}

void TableWalk::walk(const L2Table& table) {
  now_ = table;
  image_.read(table.offset, std::as_writable_bytes(std::span(words_)));
  const bool alone = image_.map.references(image_.header.cluster_of(table.offset)) == table.references;
  if (image_.repairs(RepairRound::copied)) right_words_ = words_;
  const std::size_t step = image_.header.extended_l2 ? 2 : 1;
  for (std::size_t i = 0; i < words_.size(); i += step) {
    const std::uint64_t bitmap = step == 2 ? std::uint64_t{words_[i + 1]} : 0;
    if (words_[i] != 0 || bitmap != 0) take_l2_entry(i / step, words_[i], bitmap);
  }
  if (image_.repairs(RepairRound::copied) && alone)
    image_.replace(table.offset, std::as_bytes(std::span(words_)), std::as_bytes(std::span(right_words_)));
}

void TableWalk::take_l2_entry(std::uint64_t index, std::uint64_t value, std::uint64_t bitmap) {
  const TableEntry entry{Table::l2_table, index, value, now_.offset + index * image_.header.l2_entry_bytes()};
  if ((value & kEntryCompressed) != 0) return take_compressed(entry, bitmap);
  check_standard_flags(entry, bitmap);
  // In an external data file a guest cluster may lie at offset 0.
  const bool mapped = (value & kEntryOffsetMask) != 0 || (image_.header.has_data_file && (value & kEntryCopied) != 0);
  if (mapped)
    take_standard(entry, bitmap);
  else
    take_unallocated(entry, bitmap);
}

void TableWalk::check_standard_flags(const TableEntry& entry, std::uint64_t bitmap) {
  if ((entry.value & kL2Reserved) != 0) image_.findings.corrupt(entry, "reserved bits are set");
  if ((entry.value & kEntryZero) != 0 && image_.header.version == 2)
    image_.findings.corrupt(entry, "the zero flag is set, which version 2 does not have");
  if ((entry.value & kEntryZero) != 0 && image_.header.extended_l2)
    image_.findings.corrupt(entry, "the zero flag is set, which extended L2 entries do not have");
  if ((bitmap & bitmap >> kSubclusters) != 0) image_.findings.corrupt(entry, "a subcluster is both allocated and zero");
}

void TableWalk::take_unallocated(const TableEntry& entry, std::uint64_t bitmap) {
  if ((bitmap & 0xffffffff) != 0) image_.findings.corrupt(entry, "a subcluster of an unallocated cluster is allocated");
}

void TableWalk::take_compressed(const TableEntry& entry, std::uint64_t bitmap) {
  const CheckHeader& header = image_.header;
  if ((entry.value & kEntryCopied) != 0) {
    image_.findings.corrupt(entry, "COPIED is set for a compressed cluster");
    flip_copied(entry);
  }
  if (header.has_data_file || bitmap != 0) {
    image_.references_unknown = true;
    return image_.findings.corrupt(entry, bitmap != 0 ? "a compressed cluster with a subcluster bitmap"
                                                      : "a compressed cluster in an image with an external data file");
  }
  if (header.crypt_method != kCryptNone)
    image_.findings.corrupt(entry, "a compressed cluster in an encrypted image: its data is not encrypted");
  if (now_.active) ++statistics_.allocated, ++statistics_.compressed, ++statistics_.fragmented;
  const CompressedRange range = CompressedRange::of(entry.value, header.cluster_bits);
  if (image_.is_far_outside(range.offset, range.bytes)) {
    image_.leave_uncounted(range.offset);
    return image_.findings.corrupt(entry, "the compressed cluster lies beyond the end of the file");
  }
  if (range.offset + range.bytes >= image_.file_size + kCompressedSector)
    image_.findings.corrupt(entry, "the compressed cluster is cut off by the end of the file");
  remember_compressed(entry.index);
  claim_guest_clusters(entry, range.offset, range.bytes, Mark::packed);
}

void TableWalk::remember_compressed(std::uint64_t index) {
  const std::uint64_t first = round_down(index, CompressedPiece::kEntries);
  if (compressed_pieces_.empty() || compressed_pieces_.back().table_offset != now_.offset ||
      compressed_pieces_.back().first_entry != first)
    compressed_pieces_.push_back({now_.offset, first});
}

void TableWalk::take_standard(const TableEntry& entry, std::uint64_t bitmap) {
  const std::uint64_t offset = entry.value & kEntryOffsetMask;
  if (!image_.header.is_aligned(offset)) image_.findings.corrupt(entry, "the cluster is not aligned");
  count_allocated(offset);
  if (!image_.header.has_data_file) claim_plain(entry, offset, bytes_needed(entry, bitmap));
  if (now_.active) check_copied(entry, offset);
}

void TableWalk::count_allocated(std::uint64_t offset) {
  if (!now_.active) return;
  ++statistics_.allocated;
  if (now_.next_offset != 0 && offset != now_.next_offset) ++statistics_.fragmented;
  now_.next_offset = offset + image_.header.cluster_size;
}

/// How many of the cluster's bytes the guest can read: they must be in the file. What a snapshot's disk ended at is not asked.
std::uint64_t TableWalk::bytes_needed(const TableEntry& entry, std::uint64_t bitmap) const noexcept {
  const CheckHeader& header = image_.header;
  if ((entry.value & kEntryZero) != 0 && !header.extended_l2) return 0;
  const std::uint64_t guest = now_.first_guest_offset + entry.index * header.cluster_size;
  const std::uint64_t rest = header.virtual_size > guest ? std::min(header.cluster_size, header.virtual_size - guest) : 0;
  if (!now_.active && rest < header.cluster_size) return 0;
  if (!header.extended_l2) return rest;
  const std::uint64_t subclusters = 64 - static_cast<std::uint64_t>(std::countl_zero(bitmap & 0xffffffff));
  return std::min(rest, subclusters * (header.cluster_size / kSubclusters));
}

void TableWalk::claim_plain(const TableEntry& entry, std::uint64_t offset, std::uint64_t bytes_needed) {
  if (image_.is_far_outside(offset, image_.header.cluster_size)) {
    image_.leave_uncounted(offset);
    return image_.findings.corrupt(entry, "the cluster lies beyond the end of the file");
  }
  if (offset + bytes_needed > image_.file_size) image_.findings.corrupt(entry, "the cluster is cut off by the end of the file");
  claim_guest_clusters(entry, offset, image_.header.cluster_size, Mark::plain);
}

// Whether a cluster is mapped twice is asked of the active L1 table alone: snapshots share its clusters.
void TableWalk::claim_guest_clusters(const TableEntry& entry, std::uint64_t offset, std::uint64_t bytes, Mark mark) {
  ClusterMap& map = image_.map;
  const Mark other = mark == Mark::plain ? Mark::packed : Mark::plain;
  bool on_metadata = false, on_other = false, twice = false;
  for (std::uint64_t at = image_.header.cluster_of(offset); at <= image_.header.cluster_of(offset + bytes - 1); ++at) {
    map.add_references(at, now_.references);
    on_metadata |= map.has(at, Mark::metadata);
    on_other |= map.has(at, other);
    if (mark == Mark::packed || now_.active) twice |= map.mark(at, mark);
  }
  if (on_metadata) image_.findings.corrupt(entry, "the guest's data overlaps metadata");
  if (on_other) image_.findings.corrupt(entry, "a compressed and a plain cluster overlap");
  if (twice && mark == Mark::plain) image_.findings.corrupt(entry, "the cluster is mapped twice");
}

void TableWalk::check_copied(const TableEntry& entry, std::uint64_t offset) {
  const std::uint64_t cluster = image_.header.cluster_of(offset);
  const bool copied = (entry.value & kEntryCopied) != 0;
  bool one = true;  // in an external data file every cluster has one owner
  if (!image_.header.has_data_file || entry.table != Table::l2_table) {
    if (cluster >= image_.map.clusters() || !stored_.is_known(cluster)) return;
    one = image_.map.has(cluster, Mark::stored_one);
  }
  if (copied == one) return;
  image_.findings.corrupt(entry,
                          copied ? "COPIED is set, but the refcount is not one" : "COPIED is not set, but the refcount is one");
  flip_copied(entry);
}

void TableWalk::flip_copied(const TableEntry& entry) {
  if (!image_.repairs(RepairRound::copied)) return;
  if (entry.table == Table::l1_table)
    l1_to_flip_.push_back(entry);
  else
    right_words_[entry.index * image_.header.l2_entry_bytes() / sizeof(Be64)] = entry.value ^ kEntryCopied;
}

/// Sector by sector of the active L1 table, unless other metadata lies there too.
void TableWalk::repair_l1() {
  constexpr std::uint64_t kPerSector = kSectorSize / sizeof(Be64);
  std::sort(l1_to_flip_.begin(), l1_to_flip_.end(), [](const TableEntry& a, const TableEntry& b) { return a.index < b.index; });
  for (auto next = l1_to_flip_.begin(); next != l1_to_flip_.end();) {
    const std::uint64_t sector = next->index / kPerSector;
    std::vector<std::pair<std::uint64_t, Be64>> words;
    for (; next != l1_to_flip_.end() && next->index / kPerSector == sector; ++next)
      words.emplace_back(next->index % kPerSector * sizeof(Be64), next->value ^ kEntryCopied);
    const std::uint64_t at = l1_tables_.front().offset + sector * kSectorSize;
    if (image_.map.references(image_.header.cluster_of(at)) == 1) image_.replace_words(at, words);
  }
}

}  // namespace nasbackup::qcow2
