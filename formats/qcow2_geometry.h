// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The sizes that follow from a disk's size and a cluster size: how large L1 and the refcount table must be, and where they
// lie. Plain values, computed once.
#pragma once

#include <cstdint>

#include "formats/units.h"

namespace nasbackup::qcow2 {

/// Order of the file: header, L1 table, refcount table, LUKS header if any, then data with its L2 tables and refcount blocks.
/// Both tables lie early because some readers look for L1 inside the virtual size (nbdkit's qcow2dec).
struct Geometry {
  std::uint64_t virtual_size;  ///< multiple of 512
  unsigned cluster_bits;
  std::uint64_t cluster_size;
  std::uint64_t guest_clusters;
  std::uint64_t l1_entries;
  std::uint64_t l1_clusters;
  std::uint64_t refcount_table_clusters;  ///< enough for a disk without a single zero cluster
  HostOffset l1_offset;
  HostOffset refcount_table_offset;
  HostOffset luks_offset;           ///< where data begins when there is no LUKS header
  std::uint64_t luks_clusters = 0;  ///< 0: none
  std::uint64_t luks_bytes = 0;

  /// `luks_bytes`: length of a LUKS header inside the file (crypt_method 2), 0: none.
  /// `size` in bytes is rounded up to a sector. Throws FormatError for a cluster size that the format does not know and for a
  /// disk that is too large for it.
  static Geometry of(std::uint64_t size, std::uint64_t cluster_size, std::uint64_t luks_bytes = 0);
};

}  // namespace nasbackup::qcow2
