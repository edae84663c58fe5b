// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Goes through the L1 tables and every L2 table of a qcow2, counts the references to host clusters, and reports entries that
// break the rules. Sections "L1 table entry", "L2 table entry", "Extended L2 Entries". An L2 table is read once, however many L1
// entries name it: what time this takes follows from the size of the file. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/big_endian.h"
#include "formats/qcow2_check_snapshots.h"
#include "formats/qcow2_checked_image.h"
#include "formats/qcow2_stored_refcounts.h"

namespace nasbackup::qcow2 {

/// A piece of an L2 table that holds compressed clusters: what one thread decodes at a time.
struct CompressedPiece {
  static constexpr std::uint64_t kEntries = 512;

  std::uint64_t table_offset = 0;
  std::uint64_t first_entry = 0;
};

/// Of the active L1 table, as `qemu-img check` counts them.
struct ClusterStatistics {
  std::uint64_t allocated = 0;
  std::uint64_t fragmented = 0;
  std::uint64_t compressed = 0;
};

class TableWalk {
 public:
  TableWalk(CheckedImage& image, const StoredRefcounts& stored) : image_(image), stored_(stored) {}

  /// Reads the L1 tables and counts their clusters and those of the L2 tables that they name.
  void take_l1_tables(const std::vector<L1Table>& tables);
  /// Reads the L2 tables. To be called when all metadata is counted and the refcounts of one are marked.
  void walk_l2_tables();

  const ClusterStatistics& statistics() const noexcept { return statistics_; }
  const std::vector<CompressedPiece>& compressed_pieces() const noexcept { return compressed_pieces_; }

 private:
  /// An L1 entry that names an L2 table.
  struct Reference {
    std::uint64_t value;
    std::uint32_t table;  // of the L1 tables in order: 0 is the active one
    std::uint32_t index;
  };
  /// The L2 table under way.
  struct L2Table {
    std::uint64_t offset = 0;
    std::uint64_t references = 0;
    bool active = false;
    std::uint64_t first_guest_offset = 0;
    std::uint64_t next_offset = 0;  // of the cluster that would not be a fragment
  };

  void take_l1(const L1Table& table, std::uint32_t number);
  void take_l1_entry(const Reference& reference);
  TableEntry l1_entry(const Reference& reference) const;
  void claim_l2_tables();
  void claim_group(std::span<const Reference> group);

  void walk(const L2Table& table);
  void take_l2_entry(std::uint64_t index, std::uint64_t value, std::uint64_t bitmap);
  void take_compressed(const TableEntry& entry, std::uint64_t bitmap);
  void take_standard(const TableEntry& entry, std::uint64_t bitmap);
  void take_unallocated(const TableEntry& entry, std::uint64_t bitmap);
  void check_standard_flags(const TableEntry& entry, std::uint64_t bitmap);
  void claim_plain(const TableEntry& entry, std::uint64_t offset, std::uint64_t bytes_needed);
  void claim_guest_clusters(const TableEntry& entry, std::uint64_t offset, std::uint64_t bytes, Mark mark);
  void check_copied(const TableEntry& entry, std::uint64_t offset);
  void flip_copied(const TableEntry& entry);
  void repair_l1();
  std::uint64_t bytes_needed(const TableEntry& entry, std::uint64_t bitmap) const noexcept;
  void count_allocated(std::uint64_t offset);
  void remember_compressed(std::uint64_t index);

  CheckedImage& image_;
  const StoredRefcounts& stored_;
  std::vector<L1Table> l1_tables_;
  std::vector<Reference> references_;  // by the tables' offsets, once they are claimed
  std::vector<L2Table> l2_tables_;
  L2Table now_;
  std::vector<Be64> words_;             // of the table under way
  std::vector<Be64> right_words_;       // the same with the COPIED flags that it should have; in that round of a repair
  std::vector<TableEntry> l1_to_flip_;  // of the active L1 table, with a wrong COPIED flag
  ClusterStatistics statistics_;
  std::vector<CompressedPiece> compressed_pieces_;
};

}  // namespace nasbackup::qcow2
