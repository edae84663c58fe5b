// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which bytes of the file a compressed cluster's descriptor names, for the parts of the check. Section "Compressed Clusters
// Descriptor". Pure.
#pragma once

#include <cstdint>

#include "formats/qcow2_format.h"

namespace nasbackup::qcow2 {

struct CompressedRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  ///< to the end of the last sector: the stream ends somewhere in it

  static CompressedRange of(std::uint64_t descriptor, unsigned cluster_bits) noexcept {
    const unsigned bits = compressed_offset_bits(cluster_bits);
    const std::uint64_t offset = descriptor & ((std::uint64_t{1} << bits) - 1);
    const std::uint64_t sectors = ((descriptor & (kEntryCompressed - 1)) >> bits) + 1;
    return {offset, sectors * kCompressedSector - offset % kCompressedSector};
  }
};

}  // namespace nasbackup::qcow2
