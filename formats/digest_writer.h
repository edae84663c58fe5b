// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Writes a digest file from front to back, piece after piece in guest order: pieces of one kind become runs, runs and tags fill
// segments, the index follows the last of them, and a root over all before it ends the file (docs/formats/digests.md). The same
// pieces give the same bytes, however they are cut into calls. Holds one segment and the index. Used by one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "crypto/digest.h"
#include "formats/digest_format.h"
#include "formats/image_layout.h"
#include "formats/piece_digest.h"
#include "formats/write_batch.h"

namespace nasbackup::digests {

class Writer {
 public:
  /// `salt`: zero when there is no key. Throws FormatError for sizes that the format does not have.
  Writer(Kind kind, std::uint64_t piece_size, std::uint64_t virtual_size, const Salt& salt);

  /// What becomes full is added to `out`. Throws FormatError when the file is full.
  void add(std::span<const PieceDigest> pieces, WriteBatch& out);
  /// Pieces without tags.
  void add_absent(Absent as, std::uint64_t pieces, WriteBatch& out);
  /// After the last piece: the rest of the file. Returns the root.
  Root finish(WriteBatch& out);

  std::uint64_t file_size() const noexcept { return size_; }
  /// Bytes that a writer for such a disk holds at most, with what is under way of it.
  static std::uint64_t memory(std::uint64_t pieces) noexcept;

 private:
  void add_run(PieceKind kind, std::uint64_t pieces, WriteBatch& out);
  void write_segment(WriteBatch& out);
  void append(std::span<const std::byte> bytes, WriteBatch& out);

  Header header_;
  std::uint64_t pieces_;    // of the disk
  std::uint64_t next_ = 0;  // the pieces before it have been added
  std::uint64_t size_ = 0;
  bool begun_ = false;
  crypto::Digest hash_;
  std::vector<Be64> runs_;  // of the segment that is being filled, and its tags
  std::vector<Tag> tags_;
  std::uint64_t segment_first_ = 0;
  std::vector<IndexEntry> index_;
};

/// How many pieces a disk has.
constexpr std::uint64_t pieces_of(std::uint64_t virtual_size, std::uint64_t piece_size) noexcept {
  return div_round_up(virtual_size, piece_size);
}

/// Throws FormatError unless the format has such pieces and such a disk.
void require_sizes(std::uint64_t piece_size, std::uint64_t virtual_size);

}  // namespace nasbackup::digests
