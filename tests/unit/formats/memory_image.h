// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An image file in memory: what a layout's batches come to, and a small independent reader of its tables. For tests.
#pragma once

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

}  // namespace nasbackup
