// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_check_bitmaps.h. The limits are those of QEMU's block/qcow2-bitmap.c.
#include "formats/qcow2_check_bitmaps.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "formats/qcow2_format.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

constexpr std::size_t kTablePiece = 64u << 10;  // entries of a table that are read at once

class BitmapWalk {
 public:
  explicit BitmapWalk(CheckedImage& image) : image_(image) {}

  void run() {
    const CheckHeader& header = image_.header;
    const TableEntry pointer{Table::header, 0, header.bitmap_directory_offset, 0};
    if (!image_.claim_metadata(pointer, header.bitmap_directory_offset, header.bitmap_directory_bytes)) return lost();
    std::vector<std::byte> directory(header.bitmap_directory_bytes);
    image_.read(header.bitmap_directory_offset, directory);
    std::uint64_t at = 0;
    for (std::uint32_t i = 0; i < header.bitmaps; ++i) {
      const std::uint64_t length = take_entry(directory, at, i);
      if (length == 0) return lost();
      at += length;
    }
    if (at != directory.size()) image_.findings.corrupt(pointer, "the bitmap directory is longer than its entries");
  }

 private:
  void lost() { image_.references_unknown = true; }

  /// Bytes of the entry; 0 when the directory cannot go on behind it.
  std::uint64_t take_entry(std::span<const std::byte> directory, std::uint64_t at, std::uint32_t index) {
    TableEntry pointer{Table::bitmap_directory, index, 0, image_.header.bitmap_directory_offset + at};
    BitmapDirectoryEntry entry;
    if (directory.size() - at < sizeof entry) return wrong(pointer, "the directory ends before it");
    std::memcpy(static_cast<void*>(&entry), directory.data() + at, sizeof entry);
    pointer.value = entry.table_offset;
    const std::uint64_t length = round_up(sizeof entry + std::uint64_t{entry.extra_data_size} + entry.name_size, 8);
    if (length > directory.size() - at) return wrong(pointer, "the directory ends within it");
    if (!is_sound(entry)) return wrong(pointer, "it is no valid bitmap");
    walk_table(pointer, entry);
    return length;
  }

  std::uint64_t wrong(const TableEntry& pointer, std::string_view what) {
    image_.findings.corrupt(pointer, what);
    return 0;
  }

  bool is_sound(const BitmapDirectoryEntry& entry) const noexcept {
    return entry.table_size != 0 && entry.table_size <= kMaxBitmapTableEntries && entry.table_offset != 0 &&
           image_.header.is_aligned(entry.table_offset) && (entry.flags & kBitmapFlagsReserved) == 0 &&
           entry.extra_data_size == 0 && entry.type == kBitmapDirtyTracking &&
           entry.granularity_bits >= kMinBitmapGranularityBits && entry.granularity_bits <= kMaxBitmapGranularityBits &&
           entry.name_size != 0 && entry.name_size <= kMaxBitmapName;
  }

  // Only what no other metadata has is read, so that the time follows from the size of the file.
  void walk_table(const TableEntry& pointer, const BitmapDirectoryEntry& bitmap) {
    const std::uint64_t entries = bitmap.table_size;
    if (!image_.claim_metadata(pointer, bitmap.table_offset, entries * sizeof(Be64))) return lost();
    for (std::uint64_t first = 0; first < entries; first += kTablePiece) {
      std::vector<Be64> piece(std::min<std::uint64_t>(kTablePiece, entries - first));
      const std::uint64_t at = bitmap.table_offset + first * sizeof(Be64);
      image_.read(at, std::as_writable_bytes(std::span(piece)));
      for (std::uint64_t i = 0; i < piece.size(); ++i)
        take_table_entry({Table::bitmap_table, first + i, piece[i], at + i * sizeof(Be64)});
    }
  }

  void take_table_entry(const TableEntry& entry) {
    const std::uint64_t offset = entry.value & kEntryOffsetMask;
    if ((entry.value & kBitmapEntryReserved) != 0 || (offset != 0 && (entry.value & kBitmapEntryAllOnes) != 0))
      return wrong_data(entry, "reserved bits are set");
    if (!image_.header.is_aligned(offset)) return wrong_data(entry, "the bitmap's data is not aligned to a cluster");
    if (offset != 0) image_.claim_metadata(entry, offset, image_.header.cluster_size);
  }

  void wrong_data(const TableEntry& entry, std::string_view what) {
    image_.findings.corrupt(entry, what);
    lost();
  }

  CheckedImage& image_;
};

}  // namespace

void check_bitmaps(CheckedImage& image) {
  if (image.header.bitmaps != 0) BitmapWalk(image).run();
}

}  // namespace nasbackup::qcow2
