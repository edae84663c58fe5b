// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See deflate_history.h. Sections: "L1 table entry", "L2 table entry", "Compressed Clusters Descriptor".
#include "formats/deflate_history.h"

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <new>
#include <string_view>
#include <vector>

#include "formats/qcow2_format.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

constexpr std::size_t kTablesSampled = 64;
constexpr std::size_t kTableBytesSampled = 64u << 10;
constexpr std::size_t kClustersSampled = 32;

/// Inflate keeps the window that it was told of, and nothing more: within a call it would see all that the call has given.
class ShortWindow {
 public:
  ShortWindow() {
    if (inflateInit2(&stream_, -12) != Z_OK) throw std::bad_alloc();
  }
  ~ShortWindow() { inflateEnd(&stream_); }
  ShortWindow(const ShortWindow&) = delete;
  ShortWindow& operator=(const ShortWindow&) = delete;

  /// Z_OK, or how it ended.
  int inflate_all(std::span<const std::byte> input, std::size_t cluster_size) {
    std::byte step[256];
    stream_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(input.data()));
    stream_.avail_in = static_cast<uInt>(input.size());
    int outcome = Z_OK;
    for (std::size_t done = 0; outcome == Z_OK && done < cluster_size; done += sizeof step) {
      stream_.next_out = reinterpret_cast<Bytef*>(step);
      stream_.avail_out = sizeof step;
      outcome = inflate(&stream_, Z_SYNC_FLUSH);
    }
    return outcome;
  }

  bool too_far_back() const { return stream_.msg != nullptr && std::string_view(stream_.msg) == "invalid distance too far back"; }

 private:
  z_stream stream_{};
};

std::vector<std::uint64_t> read_entries(const ReadImage& read, std::uint64_t offset, std::size_t bytes) {
  std::vector<Be64> table(bytes / sizeof(Be64));
  const std::size_t got = read(offset, std::as_writable_bytes(std::span(table))) / sizeof(Be64);
  return {table.begin(), table.begin() + static_cast<std::ptrdiff_t>(got)};
}

/// The L2 tables that L1 names, or some of them, spread evenly.
std::vector<std::uint64_t> sample_tables(const HeaderFacts& header, const ReadImage& read) {
  std::vector<std::uint64_t> tables;
  for (std::uint64_t entry : read_entries(read, header.l1_offset, std::size_t{header.l1_entries} * sizeof(Be64)))
    if ((entry & kEntryOffsetMask) != 0) tables.push_back(entry & kEntryOffsetMask);
  const std::size_t step = div_round_up(tables.size(), kTablesSampled);
  std::vector<std::uint64_t> sample;
  for (std::size_t i = 0; i < tables.size(); i += step) sample.push_back(tables[i]);
  return sample;
}

std::vector<std::byte> read_stream(const HeaderFacts& header, std::uint64_t entry, const ReadImage& read) {
  const unsigned bits = compressed_offset_bits(static_cast<unsigned>(std::countr_zero(header.cluster_size)));
  const std::uint64_t offset = entry & ((std::uint64_t{1} << bits) - 1);
  const std::uint64_t sectors = ((entry & (kEntryCompressed - 1)) >> bits) + 1;
  std::vector<std::byte> stream(sectors * kCompressedSector - offset % kCompressedSector);
  stream.resize(read(offset, stream));
  return stream;
}

}  // namespace

bool looks_back_further(std::span<const std::byte> stream, std::size_t cluster_size) {
  ShortWindow window;
  return window.inflate_all(stream, cluster_size) == Z_DATA_ERROR && window.too_far_back();
}

std::optional<std::uint32_t> deflate_history(const HeaderFacts& header, const ReadImage& read) {
  if (header.compression_type != kZlib || header.extended_l2) return std::nullopt;
  std::size_t looked_at = 0;
  const std::size_t table_bytes = std::min<std::uint64_t>(header.cluster_size, kTableBytesSampled);
  for (const std::uint64_t table : sample_tables(header, read)) {
    for (const std::uint64_t entry : read_entries(read, table, table_bytes)) {
      if ((entry & kEntryCompressed) == 0) continue;
      if (looks_back_further(read_stream(header, entry, read), header.cluster_size)) return kLongHistory;
      if (++looked_at == kClustersSampled) return kShortHistory;
    }
  }
  return looked_at > 0 ? std::optional(kShortHistory) : std::nullopt;
}

}  // namespace nasbackup::qcow2
