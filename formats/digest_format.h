// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The digest file of a disk as it lies on the target (docs/formats/digests.md), shared by what writes and what reads it. All
// integers are big-endian. Plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "formats/big_endian.h"

namespace nasbackup::digests {

//    header                        kHeaderBytes
//    segments, one after the other: SegmentHeader, runs (Be64 each), tags (16 bytes each)
//    index                         an IndexEntry for each segment
//    trailer                       Trailer
//    root                          SHA-256 of all before it

using Tag = std::array<std::byte, 16>;
using Root = std::array<std::byte, 32>;
using Salt = std::array<std::byte, 32>;

inline constexpr std::array<char, 8> kMagic{'n', 'b', 'd', 'i', 'g', 'e', 's', 't'};
inline constexpr std::uint32_t kVersion = 1;

/// What a tag is.
enum class Kind : std::uint32_t { xxh3_128 = 1, gmac_aes_256 = 2 };

/// What a run of pieces is: in the highest byte of its word; the others count the pieces, at least one.
enum class PieceKind : std::uint8_t {
  zero = 0,
  data = 1,    ///< each has a tag
  parent = 2,  ///< as in the parent set: only in an increment
};
inline constexpr unsigned kRunKindShift = 56;
inline constexpr std::uint64_t kMostPiecesOfRun = (std::uint64_t{1} << kRunKindShift) - 1;

inline constexpr std::uint64_t kLeastPiece = 64u << 10, kMostPiece = 2u << 20;
inline constexpr std::uint64_t kMostVirtualSize = std::uint64_t{1} << 62;

struct Header {
  std::array<char, 8> magic;
  Be32 version;
  Be32 kind;
  Be64 piece_size;                     ///< a power of two
  Be64 virtual_size;                   ///< of the disk, bytes; the last piece ends behind it
  Salt salt;                           ///< of the key that tags are made with; zero when there is none
  std::array<std::byte, 16> reserved;  ///< zero
};
static_assert(sizeof(Header) == 80);

/// A segment is full when it has either of these; all but the last are.
inline constexpr std::uint32_t kSegmentTags = 16384;
inline constexpr std::uint32_t kSegmentRuns = 8192;

struct SegmentHeader {
  Be32 runs;
  Be32 tags;
};
static_assert(sizeof(SegmentHeader) == 8);

struct IndexEntry {
  Be64 first_piece;
  Be64 offset;  ///< of the segment, from the file's beginning
};
static_assert(sizeof(IndexEntry) == 16);

struct Trailer {
  Be64 index_offset;
  Be64 segments;
};
static_assert(sizeof(Trailer) == 16);

/// More is not written, and not read: 1 PiB of data with pieces of 64 KiB; the index of it takes 16 MiB.
inline constexpr std::uint64_t kMostSegments = 1u << 20;

}  // namespace nasbackup::digests
