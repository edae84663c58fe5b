// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The whole check of a qcow2 that is in memory. One thread.
#pragma once

#include <algorithm>
#include <cstring>

#include "formats/compression.h"
#include "formats/qcow2_check.h"
#include "formats/qcow2_compressed_check.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_header_reader.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup::fuzz {

/// An image from the sectors that are not zero: each is a byte, its number, and 512 bytes; the last one may be shorter. Images
/// are mostly zero, and what is changed of an input shall mean something.
inline Bytes unpacked(std::span<const std::byte> sectors) {
  constexpr std::size_t kSector = 512;
  Bytes image;
  while (sectors.size() > 1) {
    const std::size_t at = std::to_integer<std::size_t>(sectors.front()) * kSector;
    const auto sector = sectors.subspan(1, std::min(kSector, sectors.size() - 1));
    if (image.size() < at + sector.size()) image.resize(at + sector.size());
    std::memcpy(image.data() + at, sector.data(), sector.size());
    sectors = sectors.subspan(1 + sector.size());
  }
  return image;
}

/// `image` outlives it.
inline qcow2::ReadUpTo reading(std::span<const std::byte> image) {
  return [image](std::uint64_t offset, std::span<std::byte> into) {
    if (offset >= image.size()) return std::size_t{0};
    const std::size_t got = std::min<std::size_t>(into.size(), image.size() - offset);
    std::memcpy(into.data(), image.data() + offset, got);
    return got;
  };
}

inline qcow2::CheckHeader check_header(std::span<const std::byte> image) {
  return qcow2::parse_check_header(image.first(std::min(image.size(), qcow2::kHeaderReadBytes)));
}

inline qcow2::MetadataCheck check_tables(std::span<const std::byte> image, const qcow2::RepairRequest* repair = nullptr) {
  return qcow2::check_metadata(reading(image), image.size(), check_header(image), repair);
}

/// So many bytes are decoded at most: an input of some KiB can name thousands of clusters.
inline constexpr std::uint64_t kMostDecoded = 4u << 20;

inline std::uint64_t count_streams(std::span<const std::byte> image, const qcow2::CheckHeader& header,
                                   const std::vector<qcow2::CompressedPiece>& pieces) {
  std::uint64_t streams = 0;
  for (const qcow2::CompressedPiece& piece : pieces)
    for (std::uint64_t i = 0; i < std::min(qcow2::CompressedPiece::kEntries, header.l2_entries()); ++i) {
      Be64 entry;
      reading(image)(piece.table_offset + (piece.first_entry + i) * header.l2_entry_bytes(),
                     std::as_writable_bytes(std::span(&entry, 1)));
      streams += (entry & qcow2::kEntryCompressed) != 0;
    }
  return streams;
}

/// Of the compressed clusters that are in `check`, added to its findings. False: they are too many.
inline bool check_streams(std::span<const std::byte> image, qcow2::MetadataCheck& check) {
  if (check.compressed_pieces.empty()) return true;
  const qcow2::CheckHeader header = check_header(image);
  if (header.compression_type == qcow2::kZstd && !is_built_in(Codec::zstd)) return false;  // who calls it looks first
  if (count_streams(image, header, check.compressed_pieces) > kMostDecoded / header.cluster_size) return false;
  const qcow2::ReadUpTo read = reading(image);
  qcow2::CompressedCheck streams(read, image.size(), header);
  for (const qcow2::CompressedPiece& piece : check.compressed_pieces) streams.check(piece, check.findings);
  return true;
}

inline bool is_clean(const qcow2::MetadataCheck& check) noexcept {
  return check.findings.count(qcow2::FindingKind::corruption) == 0 &&
         check.findings.count(qcow2::FindingKind::check_error) == 0 && check.findings.count(qcow2::FindingKind::leak) == 0;
}

}  // namespace nasbackup::fuzz
