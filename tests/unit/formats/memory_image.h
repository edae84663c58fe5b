// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An image file in memory: what a layout's batches come to, and a small independent reader of its tables. For tests.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "formats/qcow2_format.h"
#include "formats/write_batch.h"

namespace nasbackup {

class MemoryImage {
 public:
  void apply(const WriteBatch& batch) {
    for (const FileRange& range : batch.zeroes()) {
      grow(range.offset.value + range.length);
      std::memset(bytes_.data() + range.offset.value, 0, range.length);
    }
    for (const FileWrite& write : batch.writes()) {
      std::uint64_t at = write.offset.value;
      for (const auto& piece : write.pieces) {
        grow(at + piece.bytes.size());
        std::memcpy(bytes_.data() + at, piece.bytes.data(), piece.bytes.size());
        at += piece.bytes.size();
      }
    }
  }
  const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

  template <class T>
  T at(std::uint64_t offset) const {
    T value;
    std::memcpy(static_cast<void*>(&value), bytes_.data() + offset, sizeof value);
    return value;
  }
  std::uint64_t entry(std::uint64_t table, std::uint64_t index) const { return at<Be64>(table + 8 * index); }

 private:
  void grow(std::uint64_t size) {
    if (bytes_.size() < size) bytes_.resize(size);
  }
  std::vector<std::byte> bytes_;
};

/// The guest's disk, of a qcow2 without compressed clusters.
inline std::vector<std::byte> read_guest(const MemoryImage& image, std::uint64_t size, std::uint64_t cluster) {
  std::vector<std::byte> disk(size);
  const auto header = image.at<qcow2::Header>(0);
  const std::uint64_t entries = cluster / 8;
  for (std::uint64_t at = 0; at < size; at += cluster) {
    const std::uint64_t index = at / cluster;
    const std::uint64_t l1 = image.entry(header.l1_table_offset, index / entries) & qcow2::kEntryOffsetMask;
    const std::uint64_t host = l1 == 0 ? 0 : image.entry(l1, index % entries) & qcow2::kEntryOffsetMask;
    if (host != 0) std::memcpy(disk.data() + at, image.bytes().data() + host, std::min(cluster, size - at));
  }
  return disk;
}

}  // namespace nasbackup
