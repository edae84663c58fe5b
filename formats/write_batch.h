// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a layout wants written, collected while one work item is placed: pieces of the caller's buffers and tables of its own,
// and runs of zeroes. Neighbours in the file are joined, so that one item leaves as one or two large writes.
// Used by one thread at a time; the guest data that a batch points at must live until the batch is written.
#pragma once

#include <cstddef>
#include <deque>
#include <span>
#include <vector>

#include "formats/units.h"

namespace nasbackup {

/// Pieces that lie behind each other in the file from `offset` on.
struct FileWrite {
  HostOffset offset;
  std::uint64_t length = 0;
  std::vector<std::span<const std::byte>> pieces;
};

struct FileRange {
  HostOffset offset;
  std::uint64_t length = 0;
};

class WriteBatch {
 public:
  /// Bytes that somebody else keeps alive.
  void add(HostOffset offset, std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    if (writes_.empty() || writes_.back().offset + writes_.back().length != offset) writes_.push_back({offset, 0, {}});
    writes_.back().pieces.push_back(bytes);
    writes_.back().length += bytes.size();
  }
  /// Bytes that the batch keeps.
  void add_owned(HostOffset offset, std::vector<std::byte> bytes) {
    owned_.push_back(std::move(bytes));
    add(offset, owned_.back());
  }
  /// A range that must read as zero afterwards.
  void add_zeroes(HostOffset offset, std::uint64_t length) { zeroes_.push_back({offset, length}); }

  bool empty() const noexcept { return writes_.empty() && zeroes_.empty(); }
  const std::vector<FileWrite>& writes() const noexcept { return writes_; }
  const std::vector<FileRange>& zeroes() const noexcept { return zeroes_; }

 private:
  std::vector<FileWrite> writes_;
  std::vector<FileRange> zeroes_;
  std::deque<std::vector<std::byte>> owned_;
};

}  // namespace nasbackup
