// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The persistent bitmaps of a qcow2 as bytes: their directory, the size of a bitmap's table, and the header extension that leads
// to them. Sections "Bitmaps extension", "Bitmap directory", "Bitmap table"; the limits are those of QEMU's block/qcow2-bitmap.c.
// What is read may be made by others: it is bounded before it is used, and FormatError says what is wrong. No state; safe
// everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/qcow2_format.h"

namespace nasbackup::qcow2 {

/// What the directory says of one bitmap.
struct StoredBitmap {
  std::string name;
  std::uint64_t table_offset = 0;
  std::uint32_t table_entries = 0;
  std::uint32_t flags = 0;
  std::uint8_t granularity_bits = 0;  ///< so many guest bytes a bit, as a power of two
};

/// `count`: what the extension says; the entries must fill the directory. Throws FormatError.
std::vector<StoredBitmap> parse_bitmap_directory(std::span<const std::byte> directory, std::uint32_t count);

/// Throws FormatError: more bitmaps, a longer name or a larger directory than there may be, a name that is there twice.
std::vector<std::byte> build_bitmap_directory(std::span<const StoredBitmap> bitmaps);

/// What QEMU takes when it is told nothing: a cluster, but 4 KiB at least and 64 KiB at most.
unsigned default_bitmap_granularity_bits(std::uint64_t cluster_size) noexcept;

/// How many entries the table of a bitmap of the whole disk has. Throws FormatError when it were larger than QEMU allows.
std::uint32_t bitmap_table_entries(std::uint64_t virtual_size, std::uint64_t cluster_size, unsigned granularity_bits);

/// The beginning of a version 3 header with this extension, and the autoclear bit that makes it valid, in it; autoclear bits that
/// are not known are cleared, as whoever changes an image has to. `header`: the whole first cluster, of an image that
/// parse_check_header() takes. A backing file's name moves on where it is in the way. Throws FormatError: no room.
std::vector<std::byte> header_with_bitmaps(std::span<const std::byte> header, const BitmapsExtension& extension);

}  // namespace nasbackup::qcow2
