// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Reads a digest file (docs/formats/digests.md) of which nothing is believed: any piece's digest, with one segment and the index
// in memory, whatever the file's size. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "formats/digest_format.h"
#include "formats/piece_digest.h"

namespace nasbackup::digests {

class Reader {
 public:
  /// Fills the span from an offset in the file, or throws.
  using ReadAt = std::function<void(std::uint64_t offset, std::span<std::byte> into)>;

  /// Reads header, trailer and index. Throws FormatError.
  Reader(ReadAt read, std::uint64_t file_size);

  Kind kind() const noexcept { return kind_; }
  std::uint64_t piece_size() const noexcept { return piece_size_; }
  std::uint64_t virtual_size() const noexcept { return virtual_size_; }
  std::uint64_t pieces() const noexcept { return pieces_; }
  const Salt& salt() const noexcept { return salt_; }
  /// As it stands at the file's end.
  const Root& root() const noexcept { return root_; }

  /// Reads the whole file once; throws FormatError unless the root is that of what is before it. `go_on` is asked now and then,
  /// and may throw.
  void check_root(const std::function<void()>& go_on = {}) const;
  /// `number` is less than pieces(). Throws FormatError for a segment that breaks the rules.
  PieceDigest at(std::uint64_t number);
  /// The piece behind the last of those from `number` on that are of its kind, as far as that is known without looking far.
  std::uint64_t run_until(std::uint64_t number) { return find(number)->end; }

 private:
  struct Run {
    std::uint64_t end;  // the piece after it
    PieceKind kind;
    std::uint64_t first_tag;
  };
  struct Segment {
    std::size_t number = SIZE_MAX;
    std::uint64_t first = 0;  // piece
    std::vector<Run> runs;
    std::vector<Tag> tags;
  };

  void read_header();
  void read_index();
  std::vector<Run>::const_iterator find(std::uint64_t number);
  void check_entry(std::size_t segment) const;
  void load(std::size_t number);
  void read_runs(std::span<const Be64> words);
  std::uint64_t first_piece_behind(std::size_t segment) const noexcept;
  std::uint64_t end_of(std::size_t segment) const noexcept;
  template <class T>
  T read_struct(std::uint64_t offset) const;

  ReadAt read_;
  std::uint64_t file_size_;
  Kind kind_ = Kind::xxh3_128;
  std::uint64_t piece_size_ = 0, virtual_size_ = 0, pieces_ = 0;
  Salt salt_{};
  Root root_{};
  std::uint64_t index_offset_ = 0;
  std::vector<IndexEntry> index_;
  Segment segment_;
};

}  // namespace nasbackup::digests
