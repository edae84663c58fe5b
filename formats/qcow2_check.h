// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The check of a qcow2: counts the references to every host cluster from header, tables, snapshots and bitmaps, compares them
// with the stored refcounts, and reports what breaks the specification's rules, what leaves the file and what overlaps
// (docs/formats/check.md). It shares nothing with the writer but the on-disk definitions and the header's reader. Compressed
// clusters are decoded separately (qcow2_compressed_check.h), because that may be done by several threads.
// Errors: FormatError for what cannot be checked at all; whatever the reading throws passes through. No state.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/qcow2_check_header.h"
#include "formats/qcow2_checked_image.h"
#include "formats/qcow2_finding.h"
#include "formats/qcow2_table_walk.h"

namespace nasbackup::qcow2 {

struct MetadataCheck {
  Findings findings;
  std::uint64_t image_end = 0;       ///< of the last cluster in use
  std::uint64_t total_clusters = 0;  ///< of the guest's disk
  ClusterStatistics clusters;
  std::uint64_t refcount_mismatches = 0;
  bool only_header_bits = false;                   ///< nothing is wrong but the dirty and the corrupt bit
  std::vector<CompressedPiece> compressed_pieces;  ///< for CompressedCheck
};

/// `most_bytes`: of memory, for what is known of the clusters.
MetadataCheck check_metadata(const ReadUpTo& read, std::uint64_t file_size, const CheckHeader& header,
                             const RepairRequest* repair = nullptr, std::size_t most_bytes = ClusterMap::kMostBytes);

}  // namespace nasbackup::qcow2
