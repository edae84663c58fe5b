// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a layout wants written, collected while one work item is placed: pieces of the caller's buffers and tables of its own,
// and runs of zeroes. Neighbours in the file are joined, so that one item leaves as one or two large writes.
// Used by one thread at a time; the guest data that a batch points at must live until the batch is written, and belongs to the
// batch until then: a node on the way may transform it in place (encryption).
#pragma once

#include <cstddef>
#include <deque>
#include <span>
#include <vector>

#include "formats/units.h"

namespace nasbackup {

/// Guest data is what an image's own encryption covers; all else is the format's.
enum class Content : bool { guest_data, metadata };

struct FilePiece {
  std::span<std::byte> bytes;
  Content content;
};

/// Pieces that lie behind each other in the file from `offset` on.
struct FileWrite {
  HostOffset offset;
  std::uint64_t length = 0;
  std::vector<FilePiece> pieces;
};

struct FileRange {
  HostOffset offset;
  std::uint64_t length = 0;
};

class WriteBatch {
 public:
  /// Bytes that somebody else keeps alive.
  void add(HostOffset offset, std::span<std::byte> bytes, Content content) {
    if (bytes.empty()) return;
    if (writes_.empty() || writes_.back().offset + writes_.back().length != offset) writes_.push_back({offset, 0, {}});
    writes_.back().pieces.push_back({bytes, content});
    writes_.back().length += bytes.size();
  }
  /// The first `length` of bytes that the batch keeps.
  void add_owned(HostOffset offset, std::vector<std::byte> bytes, std::size_t length, Content content) {
    owned_.push_back(std::move(bytes));
    add(offset, std::span(owned_.back()).first(length), content);
  }
  void add_table(HostOffset offset, std::vector<std::byte> bytes) {
    const std::size_t length = bytes.size();
    add_owned(offset, std::move(bytes), length, Content::metadata);
  }
  /// A range that must read as zero afterwards.
  void add_zeroes(HostOffset offset, std::uint64_t length) { zeroes_.push_back({offset, length}); }
  /// Somebody else has seen to them.
  void forget_zeroes() noexcept { zeroes_.clear(); }
  /// The same bytes, so much further back in the file.
  void shift(std::uint64_t bytes) noexcept {
    for (FileWrite& write : writes_) write.offset += bytes;
    for (FileRange& range : zeroes_) range.offset += bytes;
  }

  bool empty() const noexcept { return writes_.empty() && zeroes_.empty(); }
  const std::vector<FileWrite>& writes() const noexcept { return writes_; }
  const std::vector<FileRange>& zeroes() const noexcept { return zeroes_; }

 private:
  std::vector<FileWrite> writes_;
  std::vector<FileRange> zeroes_;
  std::deque<std::vector<std::byte>> owned_;
};

}  // namespace nasbackup
