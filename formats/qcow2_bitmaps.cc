// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_bitmaps.h.
#include "formats/qcow2_bitmaps.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "formats/format_error.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

constexpr std::uint64_t kMaxBitmapBytes = 512u << 20;  // BME_MAX_PHYS_SIZE

[[noreturn]] void refuse(const std::string& what) { throw FormatError("qcow2 bitmaps: " + what); }

template <class T>
T load(std::span<const std::byte> bytes, std::uint64_t offset) {
  T value;
  std::memcpy(static_cast<void*>(&value), bytes.data() + offset, sizeof value);
  return value;
}

template <class T>
void store(std::span<std::byte> bytes, std::uint64_t offset, const T& value) {
  std::memcpy(bytes.data() + offset, static_cast<const void*>(&value), sizeof value);
}

StoredBitmap checked(const BitmapDirectoryEntry& entry, std::string name) {
  const std::string where = "bitmap at " + std::to_string(entry.table_offset) + ": ";
  if (entry.type != kBitmapDirtyTracking) refuse(where + "type: " + std::to_string(entry.type) + ", must be 1");
  if ((entry.flags & kBitmapFlagsReserved) != 0) refuse(where + "flags: " + std::to_string(entry.flags) + ", not known");
  if (entry.table_size == 0 || entry.table_size > kMaxBitmapTableEntries)
    refuse(where + "table_size: " + std::to_string(entry.table_size) + ", must be 1 to 134217728");
  if (entry.granularity_bits < kMinBitmapGranularityBits || entry.granularity_bits > kMaxBitmapGranularityBits)
    refuse(where + "granularity_bits: " + std::to_string(entry.granularity_bits) + ", must be 9 to 31");
  return {std::move(name), entry.table_offset, entry.table_size, entry.flags, entry.granularity_bits};
}

/// Where the list of extensions ends, and where in it the one for bitmaps stands (0: nowhere).
struct Extensions {
  std::uint64_t end = 0;
  std::uint64_t bitmaps = 0;
};

Extensions find_extensions(std::span<const std::byte> header, std::uint64_t length, std::uint64_t limit) {
  Extensions found{length, 0};
  while (found.end + sizeof(ExtensionHead) <= limit) {
    const auto head = load<ExtensionHead>(header, found.end);
    if (head.type == kExtensionEnd) break;
    if (head.length > limit - found.end - sizeof head) refuse("header extension: length: leaves the header");
    if (head.type == kExtensionBitmaps) {
      if (head.length != sizeof(BitmapsExtension)) refuse("bitmaps extension: length: must be 24");
      found.bitmaps = found.end;
    }
    found.end += sizeof head + round_up(head.length, 8);
  }
  return found;
}

/// Appends the extension, and the mark of the list's end; a backing file's name goes behind it.
void append_extension(std::vector<std::byte>& header, std::uint64_t at, const BitmapsExtension& extension) {
  const std::uint64_t end = at + sizeof(ExtensionHead) + sizeof extension + sizeof(ExtensionHead);
  const std::uint64_t name_at = load<Be64>(header, offsetof(Header, backing_file_offset));
  const std::uint64_t name_size = load<Be32>(header, offsetof(Header, backing_file_size));
  const bool moves = name_at != 0 && name_at < end;
  if (end + (moves ? name_size : 0) > header.size()) refuse("there is no room for their extension in the header");
  if (moves) {
    std::memmove(header.data() + end, header.data() + name_at, name_size);
    store(header, offsetof(Header, backing_file_offset), Be64(end));
  }
  store(header, at, ExtensionHead{kExtensionBitmaps, sizeof extension});
  store(header, at + sizeof(ExtensionHead), extension);
  store(header, end - sizeof(ExtensionHead), ExtensionHead{kExtensionEnd, 0});
}

}  // namespace

std::vector<StoredBitmap> parse_bitmap_directory(std::span<const std::byte> directory, std::uint32_t count) {
  std::vector<StoredBitmap> bitmaps;
  std::uint64_t at = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (directory.size() - at < sizeof(BitmapDirectoryEntry)) refuse("directory: ends before entry " + std::to_string(i));
    const auto entry = load<BitmapDirectoryEntry>(directory, at);
    if (entry.extra_data_size != 0) refuse("directory: entry " + std::to_string(i) + ": extra data, which is not known");
    if (entry.name_size == 0 || entry.name_size > kMaxBitmapName)
      refuse("directory: entry " + std::to_string(i) + ": name_size: " + std::to_string(entry.name_size) + ", must be 1 to 1023");
    const std::uint64_t length = round_up(sizeof entry + std::uint64_t{entry.name_size}, 8);
    if (length > directory.size() - at) refuse("directory: ends within entry " + std::to_string(i));
    bitmaps.push_back(checked(entry, {reinterpret_cast<const char*>(directory.data() + at + sizeof entry), entry.name_size}));
    at += length;
  }
  if (at != directory.size()) refuse("directory: longer than its entries");
  return bitmaps;
}

std::vector<std::byte> build_bitmap_directory(std::span<const StoredBitmap> bitmaps) {
  if (bitmaps.size() > kMaxBitmaps) refuse("more than 65535");
  std::vector<std::byte> directory;
  std::set<std::string_view> names;
  for (const StoredBitmap& bitmap : bitmaps) {
    if (bitmap.name.empty() || bitmap.name.size() > kMaxBitmapName) refuse("name: must have 1 to 1023 bytes");
    if (!names.insert(bitmap.name).second) refuse(bitmap.name + ": is there already");
    BitmapDirectoryEntry entry{};
    entry.table_offset = bitmap.table_offset;
    entry.table_size = bitmap.table_entries;
    entry.flags = bitmap.flags;
    entry.type = kBitmapDirtyTracking;
    entry.granularity_bits = bitmap.granularity_bits;
    entry.name_size = static_cast<std::uint16_t>(bitmap.name.size());
    const std::size_t at = directory.size();
    directory.resize(at + round_up(sizeof entry + bitmap.name.size(), 8));
    store(directory, at, entry);
    std::memcpy(directory.data() + at + sizeof entry, bitmap.name.data(), bitmap.name.size());
  }
  if (directory.size() > kMaxBitmapDirectoryBytes) refuse("directory: would be larger than 64 MiB");
  return directory;
}

unsigned default_bitmap_granularity_bits(std::uint64_t cluster_size) noexcept {
  return static_cast<unsigned>(std::countr_zero(std::clamp<std::uint64_t>(cluster_size, 4096, 65536)));
}

std::uint32_t bitmap_table_entries(std::uint64_t virtual_size, std::uint64_t cluster_size, unsigned granularity_bits) {
  const std::uint64_t bytes = div_round_up(div_round_up(virtual_size, std::uint64_t{1} << granularity_bits), 8);
  if (bytes > kMaxBitmapBytes) refuse("one of this disk would be larger than 512 MiB");
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(1, div_round_up(bytes, cluster_size)));
}

std::vector<std::byte> header_with_bitmaps(std::span<const std::byte> cluster, const BitmapsExtension& extension) {
  std::vector<std::byte> header(cluster.begin(), cluster.end());
  const std::uint64_t name_at = load<Be64>(header, offsetof(Header, backing_file_offset));
  const std::uint64_t limit = name_at != 0 ? std::min<std::uint64_t>(name_at, header.size()) : header.size();
  const Extensions found = find_extensions(header, load<Be32>(header, offsetof(Header, header_length)), limit);
  if (found.bitmaps != 0)
    store(header, found.bitmaps + sizeof(ExtensionHead), extension);
  else
    append_extension(header, found.end, extension);
  const std::uint64_t autoclear = load<Be64>(header, offsetof(Header, autoclear_features));
  store(header, offsetof(Header, autoclear_features), Be64((autoclear & kAutoclearKnown) | kAutoclearBitmaps));
  return header;
}

}  // namespace nasbackup::qcow2
