// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a check needs of a qcow2's header, asked as strictly as QEMU asks when it opens an image: what cannot be opened cannot be
// checked. Section "Header". Pure; safe everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nasbackup::qcow2 {

struct CheckHeader {
  unsigned version = 0;
  unsigned cluster_bits = 0;
  std::uint64_t cluster_size = 0;
  std::uint64_t virtual_size = 0;
  std::uint32_t crypt_method = 0;
  std::uint8_t compression_type = 0;
  bool has_data_file = false;
  bool extended_l2 = false;
  std::uint64_t incompatible_features = 0;
  std::uint64_t autoclear_features = 0;

  std::uint64_t l1_offset = 0;
  std::uint32_t l1_entries = 0;
  std::uint64_t refcount_table_offset = 0;
  std::uint32_t refcount_table_clusters = 0;  ///< 0 is reported, not refused
  unsigned refcount_order = 0;
  std::uint64_t snapshots_offset = 0;
  std::uint32_t snapshots = 0;

  std::uint64_t crypto_offset = 0;  ///< with crypt_method 2
  std::uint64_t crypto_bytes = 0;

  std::uint32_t bitmaps = 0;  ///< 0: none, or not valid
  std::uint64_t bitmap_directory_offset = 0;
  std::uint64_t bitmap_directory_bytes = 0;

  // By shifts: they stand in the innermost loops, and the compiler does not know that a cluster is a power of two.
  std::uint64_t cluster_of(std::uint64_t offset) const noexcept { return offset >> cluster_bits; }
  bool is_aligned(std::uint64_t offset) const noexcept { return (offset & (cluster_size - 1)) == 0; }
  std::uint64_t refcount_block_of(std::uint64_t cluster) const noexcept { return cluster >> (cluster_bits + 3 - refcount_order); }

  std::uint64_t l2_entry_bytes() const noexcept { return extended_l2 ? 16 : 8; }
  std::uint64_t l2_entries() const noexcept { return cluster_size / l2_entry_bytes(); }
  std::uint64_t refcounts_per_block() const noexcept { return cluster_size * 8 >> refcount_order; }
  std::uint64_t largest_refcount() const noexcept {
    return refcount_order == 6 ? ~std::uint64_t{0} : (std::uint64_t{1} << (1u << refcount_order)) - 1;
  }
  /// Bytes that one L2 table maps.
  std::uint64_t l2_reach() const noexcept { return l2_entries() * cluster_size; }
};

/// `file_start`: the file's first kHeaderReadBytes, fewer when it is shorter. Throws FormatError.
CheckHeader parse_check_header(std::span<const std::byte> file_start);

}  // namespace nasbackup::qcow2
