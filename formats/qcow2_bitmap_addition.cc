// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_bitmap_addition.h.
#include "formats/qcow2_bitmap_addition.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <span>

#include "formats/format_error.h"
#include "formats/qcow2_bitmaps.h"
#include "formats/qcow2_check_header.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_header_reader.h"
#include "formats/qcow2_stored_refcounts.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

constexpr unsigned kMostSteps = 4096;  // over clusters behind the file that have a refcount, which only a damaged image has
constexpr std::uint64_t kMostBlockBytes = 64u << 20;

[[noreturn]] void refuse(const std::string& what) { throw FormatError("qcow2: " + what); }

/// A run of clusters.
struct Region {
  std::uint64_t first = 0;
  std::uint64_t clusters = 0;
  std::uint64_t end() const noexcept { return first + clusters; }
};

/// The clusters behind the file's end: directory and table, then refcount blocks that are missing, then the refcount table if it
/// must grow.
struct Room {
  Region all;
  std::vector<std::uint64_t> new_blocks;  ///< indices
  std::uint64_t table_clusters = 0;       ///< of a new refcount table
};

class Plan {
 public:
  Plan(const ReadUpTo& read, std::uint64_t file_size, std::string name)
      : read_(read), file_size_(file_size), name_(std::move(name)), header_bytes_(read_header()), header_(checked_header()) {}

  BitmapAddition make() {
    read_refcount_table();
    read_directory();
    const std::uint32_t entries = add_entry();
    std::vector<std::byte> directory = build_bitmap_directory(bitmaps_);  // its length is known before its place
    directory_clusters_ = clusters_of(directory.size());
    const std::uint64_t own = directory_clusters_ + clusters_of(std::uint64_t{entries} * sizeof(Be64));
    const Room room = find_room(own);
    bitmaps_.back().table_offset = offset_of(room.all.first + directory_clusters_);
    directory = build_bitmap_directory(bitmaps_);
    write_room(room, directory);
    write_refcounts(room);
    write_header(room, directory.size());
    free_old(room);
    return std::move(addition_);
  }

 private:
  std::uint64_t offset_of(std::uint64_t cluster) const noexcept { return cluster << header_.cluster_bits; }
  std::uint64_t clusters_of(std::uint64_t bytes) const noexcept { return div_round_up(bytes, header_.cluster_size); }

  std::vector<std::byte> read_header() const {
    std::vector<std::byte> bytes(std::min<std::uint64_t>(kHeaderReadBytes, file_size_));
    bytes.resize(read_(0, bytes));
    return bytes;
  }

  std::vector<std::byte> read_exactly(std::uint64_t offset, std::uint64_t length) const {
    if (offset > file_size_ || length > file_size_ - offset)
      refuse("metadata at " + std::to_string(offset) + ": behind the file's end");
    std::vector<std::byte> bytes(length);
    if (length == 0) return bytes;  // without a place to read into
    if (read_(offset, bytes) != length) refuse("metadata at " + std::to_string(offset) + ": the file ends within it");
    return bytes;
  }

  CheckHeader checked_header() const {
    const CheckHeader header = parse_check_header(header_bytes_);
    if (header.version < 3) refuse("version 2: cannot have bitmaps");
    if ((header.incompatible_features & (kIncompatDirty | kIncompatCorrupt)) != 0) refuse("marked as dirty or corrupt");
    if (header.has_data_file) refuse("its data lies in another file");
    if (header_bytes_.size() < header.cluster_size) refuse("ends within its first cluster");
    return header;
  }

  void read_refcount_table() {
    if (header_.refcount_table_clusters == 0) refuse("there is no refcount table");
    const auto bytes = read_exactly(header_.refcount_table_offset, header_.refcount_table_clusters * header_.cluster_size);
    std::vector<Be64> words(bytes.size() / sizeof(Be64));
    std::memcpy(static_cast<void*>(words.data()), bytes.data(), bytes.size());
    table_.assign(words.begin(), words.end());
  }

  void read_directory() {
    if (header_.bitmaps == 0) return;
    bitmaps_ =
        parse_bitmap_directory(read_exactly(header_.bitmap_directory_offset, header_.bitmap_directory_bytes), header_.bitmaps);
  }

  std::uint32_t add_entry() {
    const unsigned granularity = default_bitmap_granularity_bits(header_.cluster_size);
    const std::uint32_t entries = bitmap_table_entries(header_.virtual_size, header_.cluster_size, granularity);
    bitmaps_.push_back({name_, 0, entries, kBitmapAuto, static_cast<std::uint8_t>(granularity)});
    return entries;
  }

  // ---- refcounts ---------------------------------------------------------------------------------------------------------

  bool lies_on_tables(std::uint64_t offset) const noexcept {
    const auto within = [&](std::uint64_t start, std::uint64_t length) {
      return offset >= round_down(start, header_.cluster_size) && offset < start + length;
    };
    return within(0, header_.cluster_size) || within(header_.l1_offset, std::uint64_t{header_.l1_entries} * sizeof(Be64)) ||
           within(header_.refcount_table_offset, table_.size() * sizeof(Be64)) ||
           (header_.bitmaps != 0 && within(header_.bitmap_directory_offset, header_.bitmap_directory_bytes)) ||
           (header_.crypto_bytes != 0 && within(header_.crypto_offset, header_.crypto_bytes));
  }

  bool has_block(std::uint64_t index) const noexcept { return index < table_.size() && table_[index] != 0; }

  struct Block {
    std::vector<std::byte> old, now;
  };

  /// One that is there, with what was changed in it so far.
  Block& block(std::uint64_t index) {
    const auto found = blocks_.find(index);
    if (found != blocks_.end()) return found->second;
    const std::uint64_t offset = table_[index];
    if ((offset & kRefcountTableReserved) != 0 || !header_.is_aligned(offset) || lies_on_tables(offset))
      refuse("refcount table entry " + std::to_string(index) + ": " + std::to_string(offset) + ": names no refcount block");
    if ((blocks_.size() + 1) * header_.cluster_size > kMostBlockBytes) refuse("too many refcount blocks for one change");
    const std::vector<std::byte> bytes = read_exactly(offset, header_.cluster_size);
    return blocks_.emplace(index, Block{bytes, bytes}).first->second;
  }

  std::uint64_t refcount_of(std::uint64_t cluster) {
    const std::uint64_t index = header_.refcount_block_of(cluster);
    return has_block(index) ? refcount_at(block(index).now, cluster % header_.refcounts_per_block(), header_.refcount_order) : 0;
  }

  void set(std::span<std::byte> block, std::uint64_t cluster, std::uint64_t count) const {
    set_refcount(block, cluster % header_.refcounts_per_block(), header_.refcount_order, count);
  }

  /// Moves what was changed in existing blocks into a stage.
  std::vector<ImageWrite> take_changed_blocks() {
    std::vector<ImageWrite> writes;
    for (auto& [index, block] : blocks_) {
      if (block.old == block.now) continue;
      writes.push_back({table_[index], block.old, block.now});
      block.old = block.now;
    }
    return writes;
  }

  // ---- room --------------------------------------------------------------------------------------------------------------

  /// The blocks that count the room, and a larger table for them, are part of it.
  Room room_at(std::uint64_t first, std::uint64_t own) const {
    Room room{{first, own}, {}, 0};
    for (std::uint64_t before = 0; before != room.all.clusters;) {
      before = room.all.clusters;
      room.new_blocks.clear();
      const std::uint64_t last_block = header_.refcount_block_of(room.all.end() - 1);
      for (std::uint64_t i = header_.refcount_block_of(first); i <= last_block; ++i)
        if (!has_block(i)) room.new_blocks.push_back(i);
      if (last_block >= table_.size()) room.table_clusters = clusters_of((last_block + 1) * sizeof(Be64));
      room.all.clusters = own + room.new_blocks.size() + room.table_clusters;
    }
    if (room.table_clusters * header_.cluster_size > kMaxRefcountTableBytes) refuse("refcount table: would be larger than 8 MiB");
    return room;
  }

  Room find_room(std::uint64_t own) {
    std::uint64_t first = clusters_of(file_size_);
    for (unsigned steps = 0; steps < kMostSteps; ++steps) {
      const Room room = room_at(first, own);
      std::uint64_t in_use = room.all.end();
      while (in_use > first && refcount_of(in_use - 1) == 0) --in_use;
      if (in_use == first) return room;
      first = in_use;
    }
    refuse("clusters behind the file's end have refcounts");
  }

  // ---- stages ------------------------------------------------------------------------------------------------------------

  std::uint64_t block_cluster(const Room& room, std::size_t i) const noexcept {
    return room.all.end() - room.table_clusters - room.new_blocks.size() + i;
  }

  void write_room(const Room& room, std::span<const std::byte> directory) {
    std::vector<std::byte> bytes(offset_of(room.all.clusters));
    std::copy(directory.begin(), directory.end(), bytes.begin());  // the bitmap's table stays zero: so is what it says
    const auto cluster_at = [&](std::uint64_t cluster) {
      return std::span(bytes).subspan(offset_of(cluster - room.all.first), header_.cluster_size);
    };
    for (std::uint64_t cluster = room.all.first; cluster < room.all.end(); ++cluster) {
      const std::uint64_t index = header_.refcount_block_of(cluster);
      if (has_block(index)) continue;
      const auto block = std::lower_bound(room.new_blocks.begin(), room.new_blocks.end(), index) - room.new_blocks.begin();
      set(cluster_at(block_cluster(room, static_cast<std::size_t>(block))), cluster, 1);
    }
    if (room.table_clusters != 0) write_table(room, std::span(bytes).last(offset_of(room.table_clusters)));
    addition_.stages.push_back({{offset_of(room.all.first), {}, std::move(bytes)}});
  }

  void write_table(const Room& room, std::span<std::byte> into) const {
    std::vector<Be64> words(into.size() / sizeof(Be64));
    std::copy(table_.begin(), table_.end(), words.begin());
    for (std::size_t i = 0; i < room.new_blocks.size(); ++i) words[room.new_blocks[i]] = offset_of(block_cluster(room, i));
    std::memcpy(into.data(), static_cast<const void*>(words.data()), into.size());
  }

  void write_refcounts(const Room& room) {
    for (std::uint64_t cluster = room.all.first; cluster < room.all.end(); ++cluster)
      if (const std::uint64_t index = header_.refcount_block_of(cluster); has_block(index)) set(block(index).now, cluster, 1);
    std::vector<ImageWrite> writes = take_changed_blocks();
    for (std::size_t i = 0; room.table_clusters == 0 && i < room.new_blocks.size(); ++i) {
      const Be64 entry = offset_of(block_cluster(room, i));
      const auto bytes = std::as_bytes(std::span(&entry, 1));
      writes.push_back({header_.refcount_table_offset + room.new_blocks[i] * sizeof entry,
                        std::vector<std::byte>(bytes.size()),
                        {bytes.begin(), bytes.end()}});
    }
    addition_.stages.push_back(std::move(writes));
  }

  /// As one write, from the first byte that changes to the last one.
  void write_header(const Room& room, std::uint64_t directory_bytes) {
    BitmapsExtension extension{};
    extension.bitmaps = static_cast<std::uint32_t>(bitmaps_.size());
    extension.directory_size = directory_bytes;
    extension.directory_offset = offset_of(room.all.first);
    const std::span<const std::byte> old = std::span(header_bytes_).first(header_.cluster_size);
    std::vector<std::byte> now = header_with_bitmaps(old, extension);
    if (room.table_clusters != 0) {
      const Be64 offset = offset_of(room.all.end() - room.table_clusters);
      const Be32 clusters = static_cast<std::uint32_t>(room.table_clusters);
      std::memcpy(now.data() + offsetof(Header, refcount_table_offset), static_cast<const void*>(&offset), sizeof offset);
      std::memcpy(now.data() + offsetof(Header, refcount_table_clusters), static_cast<const void*>(&clusters), sizeof clusters);
    }
    const auto first = std::mismatch(old.begin(), old.end(), now.begin()).first - old.begin();
    const auto after = std::mismatch(old.rbegin(), old.rend(), now.rbegin()).first.base() - old.begin();
    addition_.stages.push_back({{static_cast<std::uint64_t>(first),
                                 {old.begin() + first, old.begin() + after},
                                 {now.begin() + first, now.begin() + after}}});
  }

  void free_clusters(std::uint64_t offset, std::uint64_t length) {
    for (std::uint64_t cluster = header_.cluster_of(offset), end = cluster + clusters_of(length); cluster < end; ++cluster) {
      const std::uint64_t count = refcount_of(cluster);
      if (count == 0) refuse("cluster " + std::to_string(cluster) + ": holds metadata, and its refcount is 0");
      set(block(header_.refcount_block_of(cluster)).now, cluster, count - 1);
    }
  }

  void free_old(const Room& room) {
    if (header_.bitmaps != 0) free_clusters(header_.bitmap_directory_offset, header_.bitmap_directory_bytes);
    if (room.table_clusters != 0) free_clusters(header_.refcount_table_offset, table_.size() * sizeof(Be64));
    addition_.stages.push_back(take_changed_blocks());
  }

  const ReadUpTo& read_;
  const std::uint64_t file_size_;
  const std::string name_;
  const std::vector<std::byte> header_bytes_;
  const CheckHeader header_;
  std::vector<std::uint64_t> table_;  // refcount table
  std::vector<StoredBitmap> bitmaps_;
  std::map<std::uint64_t, Block> blocks_;  // refcount blocks that were read
  std::uint64_t directory_clusters_ = 0;
  BitmapAddition addition_;
};

}  // namespace

BitmapAddition plan_bitmap(const ReadUpTo& read, std::uint64_t file_size, const std::string& name) {
  return Plan(read, file_size, name).make();
}

}  // namespace nasbackup::qcow2
