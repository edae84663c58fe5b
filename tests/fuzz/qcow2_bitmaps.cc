// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: the persistent bitmaps of a qcow2, and one more that is added. The first byte says what follows: odd, a byte, how
// many bitmaps there are, and their directory; even, an image (memory_check.h, unpacked). Bit 1: the new bitmap's name is as long
// as there may be. Promised: a directory is bounded and is written as it was read. An addition says truly what stands where it
// writes, has its bitmap in the directory at the end, and can be taken back byte for byte; an image that the check calls clean is
// clean after it, and has no corruption after any of its writes.
#include <string>

#include "formats/qcow2_bitmap_addition.h"
#include "formats/qcow2_bitmaps.h"
#include "tests/fuzz/memory_check.h"

namespace nasbackup::qcow2 {
namespace {

using fuzz::accepted;
using fuzz::Bytes;
using fuzz::require;

constexpr std::uint64_t kMostAdded = 64u << 20, kMostChecked = 1u << 20;

bool is_bounded(const StoredBitmap& bitmap) {
  return !bitmap.name.empty() && bitmap.name.size() <= kMaxBitmapName && bitmap.table_entries > 0 &&
         bitmap.table_entries <= kMaxBitmapTableEntries && bitmap.granularity_bits >= kMinBitmapGranularityBits &&
         bitmap.granularity_bits <= kMaxBitmapGranularityBits && (bitmap.flags & kBitmapFlagsReserved) == 0;
}

bool same(const StoredBitmap& one, const StoredBitmap& other) {
  return one.name == other.name && one.table_offset == other.table_offset && one.table_entries == other.table_entries &&
         one.flags == other.flags && one.granularity_bits == other.granularity_bits;
}

void run_directory(std::span<const std::byte> directory, std::uint32_t count) {
  const auto bitmaps = accepted([&] { return parse_bitmap_directory(directory, count); });
  if (!bitmaps) return;
  require(bitmaps->size() == count, "each bitmap is there");
  for (const StoredBitmap& bitmap : *bitmaps) require(is_bounded(bitmap), "what is said of a bitmap is bounded");
  const auto written = accepted([&] { return build_bitmap_directory(*bitmaps); });
  if (!written) return;  // a name that is there twice
  require(written->size() == directory.size(), "a directory is as long as it was");
  require(std::ranges::equal(parse_bitmap_directory(*written, count), *bitmaps, same), "what was read is read again as the same");
}

// ---- an image
// ------------------------------------------------------------------------------------------------------------------

void put(Bytes& image, std::uint64_t offset, const Bytes& bytes) {
  if (image.size() < offset + bytes.size()) image.resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), image.begin() + static_cast<std::ptrdiff_t>(offset));
}

void require_true(const ImageWrite& change, const Bytes& now, std::uint64_t file_size) {
  require(change.offset <= file_size + kMostAdded && change.now.size() <= kMostAdded, "what is written is bounded");
  if (change.old.empty()) return require(change.now.empty() || change.offset >= file_size, "what is new lies behind the file");
  require(change.old.size() == change.now.size() && change.offset <= file_size && change.old.size() <= file_size - change.offset,
          "what is changed lies in the file");
  require(std::equal(change.old.begin(), change.old.end(), now.begin() + static_cast<std::ptrdiff_t>(change.offset)),
          "old is what stands there");
}

bool is_small(const Bytes& image) { return image.size() <= kMostChecked; }

/// The image with its new bitmap; `was_clean` before.
Bytes added(Bytes image, const BitmapAddition& addition, bool was_clean) {
  const std::uint64_t file_size = image.size();
  for (const auto& stage : addition.stages)
    for (const ImageWrite& change : stage) {
      require_true(change, image, file_size);
      put(image, change.offset, change.now);
      if (was_clean && is_small(image))
        require(fuzz::check_tables(image).findings.count(FindingKind::corruption) == 0, "a stop leaves leaks at worst");
    }
  return image;
}

void require_bitmap(const Bytes& image, const std::string& name) {
  const CheckHeader header = fuzz::check_header(image);
  require((header.autoclear_features & kAutoclearBitmaps) != 0 && header.bitmaps > 0, "the header says that there are bitmaps");
  require(header.bitmap_directory_offset + header.bitmap_directory_bytes <= image.size(), "the directory is in the file");
  const auto directory = std::span(image).subspan(header.bitmap_directory_offset, header.bitmap_directory_bytes);
  const auto bitmaps = parse_bitmap_directory(directory, header.bitmaps);
  require(bitmaps.back().name == name && bitmaps.back().flags == kBitmapAuto, "the new bitmap is there");
}

void require_undone(Bytes image, const BitmapAddition& addition, const Bytes& before) {
  for (auto stage = addition.stages.rbegin(); stage != addition.stages.rend(); ++stage)
    for (const ImageWrite& change : *stage) put(image, change.offset, change.old);
  image.resize(before.size());
  require(image == before, "an addition can be taken back");
}

void run_image(const Bytes& image, const std::string& name) {
  const auto addition = accepted([&] { return plan_bitmap(fuzz::reading(image), image.size(), name); });
  if (!addition) return;
  const auto check = accepted([&] { return fuzz::check_tables(image); });
  const bool was_clean = check && fuzz::is_clean(*check);
  const Bytes after = added(image, *addition, was_clean);
  if (was_clean && is_small(after)) require(fuzz::is_clean(fuzz::check_tables(after)), "a clean image stays clean");
  if (was_clean) require_bitmap(after, name);
  require_undone(after, *addition, image);
}

void run(std::span<const std::byte> bytes) {
  fuzz::Input input(bytes);
  const std::uint8_t kind = input.byte();
  if ((kind & 1) != 0) {
    const std::uint32_t count = input.byte();
    return run_directory(input.rest(), count);
  }
  run_image(fuzz::unpacked(input.rest()), (kind & 2) != 0 ? std::string(kMaxBitmapName, 'n') : "new");
}

}  // namespace
}  // namespace nasbackup::qcow2

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::qcow2::run(nasbackup::fuzz::bytes_of(data, size));
  return 0;
}
