// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What an entry of an L2 table says, read from bytes that somebody else may have made. With extended L2 entries a cluster has 32
// subclusters, each mapped by itself; without, the one subcluster is the cluster. Pure; safe everywhere. Specification: "L2 table
// entry", "Compressed Clusters Descriptor", "Extended L2 Entries".
#pragma once

#include <cstdint>
#include <span>

#include "formats/big_endian.h"
#include "formats/qcow2_header_reader.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

/// Where the content of a subcluster is.
struct Mapping {
  enum class Kind { unallocated, zero, plain, compressed };
  Kind kind = Kind::unallocated;
  HostOffset at;             ///< of its first byte; when compressed of its cluster's stream
  std::uint64_t stored = 0;  ///< when compressed: bytes from there that hold the stream, at most two clusters
};

/// The rules that hold for the entries of one image. A value.
class EntryRules {
 public:
  explicit EntryRules(const HeaderFacts& header) noexcept;

  std::uint64_t cluster_size() const noexcept { return cluster_size_; }
  std::uint64_t subcluster_size() const noexcept { return cluster_size_ / subclusters_; }
  /// Clusters that one L2 table maps.
  std::uint64_t entries_per_table() const noexcept { return entries_per_table_; }
  /// Guest bytes that one L2 table maps.
  std::uint64_t bytes_per_table() const noexcept { return entries_per_table_ * cluster_size_; }

  /// Of the subcluster that holds guest byte `at`, by the L2 table that covers it. Throws FormatError, which names the entry.
  Mapping mapping(std::span<const Be64> table, GuestOffset at) const;
  /// File offset of the L2 table that an L1 entry names, 0: none. Throws FormatError.
  HostOffset table_offset(std::uint64_t l1_index, std::uint64_t l1_entry) const;

 private:
  Mapping compressed(std::uint64_t index, std::uint64_t entry) const;
  Mapping standard(std::uint64_t index, std::uint64_t entry) const;
  Mapping extended(std::uint64_t index, std::uint64_t entry, std::uint64_t bitmap, unsigned subcluster) const;
  HostOffset host_offset(std::uint64_t index, std::uint64_t entry) const;

  unsigned version_;
  unsigned cluster_bits_;
  std::uint64_t cluster_size_;
  unsigned subclusters_;
  std::uint64_t entries_per_table_;
  bool encrypted_;
};

/// Throws FormatError for what a reader of clusters must understand and we do not (unknown incompatible features, data files, the
/// old AES encryption), and for tables that cannot map the whole disk.
void require_readable(const HeaderFacts& header);

}  // namespace nasbackup::qcow2
