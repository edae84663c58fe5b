// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The image that is checked, as the parts of the check share it: its bytes, what its header says, what was found, and what is
// known of its clusters. No part of the check has a state besides. Used by one thread at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "formats/big_endian.h"
#include "formats/qcow2_check_header.h"
#include "formats/qcow2_cluster_map.h"
#include "formats/qcow2_finding.h"
#include "formats/qcow2_repair.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

/// Reads up to `into.size()` bytes at an offset of the image; how many there were. May throw, also to end the check.
using ReadUpTo = std::function<std::size_t(std::uint64_t offset, std::span<std::byte> into)>;

struct CheckedImage {
  const ReadUpTo& read_up_to;
  std::uint64_t file_size;
  const CheckHeader& header;
  Findings& findings;
  ClusterMap& map;
  const RepairRequest* repair = nullptr;  ///< null: nothing is to be changed
  /// Something that holds references could not be followed: a cluster without one may be in use all the same.
  bool references_unknown = false;
  /// The same, but only of clusters behind the end of the file.
  bool references_outside = false;
  std::uint64_t clusters_counted = 0;  ///< of metadata, each as often as it was

  bool repairs(RepairRound round) const noexcept { return repair != nullptr && repair->round == round; }
  /// Hands out a block that shall stand at `offset`, when it differs and lies within the file.
  void replace(std::uint64_t offset, std::span<const std::byte> old, std::span<const std::byte> now) const;
  /// The same for some words of one sector, given as (offset in it, value).
  void replace_words(std::uint64_t sector, std::span<const std::pair<std::uint64_t, Be64>> words) const;

  /// What lies behind the end of the file reads as zero, as in QEMU.
  void read(std::uint64_t offset, std::span<std::byte> into) const;

  /// How many of a table's words begin in the file. The others are zero and name nothing: a table is no longer than that,
  /// whatever its size is said to be.
  std::uint64_t words_in_file(std::uint64_t offset, std::uint64_t words) const noexcept {
    return offset < file_size ? std::min(words, div_round_up(file_size - offset, sizeof(Be64))) : 0;
  }

  /// What lies from `offset` on is not counted, although something names it.
  void leave_uncounted(std::uint64_t offset) noexcept { (offset < file_size ? references_unknown : references_outside) = true; }

  /// Counts the clusters of a table, or of what else is no guest data, and reports what cannot be: it leaves the file, or other
  /// metadata lies there too. False: it must not be read. What leaves the file is counted as far as it lies in it. Throws
  /// FormatError when far more was counted than there are clusters.
  bool claim_metadata(const TableEntry& pointer, std::uint64_t offset, std::uint64_t bytes, std::uint64_t references = 1);
  /// True when [offset, offset + bytes) leaves the file by a cluster or more: then QEMU does not count it, nor do we count guest
  /// data.
  bool is_far_outside(std::uint64_t offset, std::uint64_t bytes) const noexcept;
  /// The counting of claim_metadata; the clusters are known to the map.
  bool count_metadata(const TableEntry& pointer, std::uint64_t offset, std::uint64_t bytes, std::uint64_t references);
};

}  // namespace nasbackup::qcow2
