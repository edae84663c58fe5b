// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See digest_writer.h.
#include "formats/digest_writer.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <string>
#include <utility>

#include "formats/format_error.h"

namespace nasbackup::digests {

namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) noexcept {
  return std::as_bytes(std::span(values));
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) noexcept {
  return std::as_bytes(std::span(&value, 1));
}

PieceKind kind_of(std::uint64_t run) noexcept { return static_cast<PieceKind>(run >> kRunKindShift); }

}  // namespace

void require_sizes(std::uint64_t piece_size, std::uint64_t virtual_size) {
  if (!std::has_single_bit(piece_size) || piece_size < kLeastPiece || piece_size > kMostPiece)
    throw FormatError("digest file: piece size: " + std::to_string(piece_size) + ", must be a power of two from 64 KiB to 2 MiB");
  if (virtual_size > kMostVirtualSize)
    throw FormatError("digest file: virtual size: " + std::to_string(virtual_size) + ", at most 2^62");
}

Writer::Writer(Kind kind, std::uint64_t piece_size, std::uint64_t virtual_size, const Salt& salt)
    : header_{kMagic, kVersion, static_cast<std::uint32_t>(kind), piece_size, virtual_size, salt, {}},
      hash_(crypto::Hash::sha256) {
  require_sizes(piece_size, virtual_size);
  pieces_ = pieces_of(virtual_size, piece_size);
}

std::uint64_t Writer::memory(std::uint64_t pieces) noexcept {
  const std::uint64_t segments = std::min(kMostSegments, pieces / kSegmentRuns + 1);
  const std::uint64_t held =
      std::min<std::uint64_t>(pieces, kSegmentTags) * sizeof(Tag) + std::min<std::uint64_t>(pieces, kSegmentRuns) * sizeof(Be64);
  return 2 * (held + std::min(segments, std::uint64_t{65536}) * sizeof(IndexEntry)) + 4096;
}

void Writer::add(std::span<const PieceDigest> pieces, WriteBatch& out) {
  for (const PieceDigest& piece : pieces) {
    if (piece.kind == PieceKind::data && tags_.size() == kSegmentTags) write_segment(out);
    add_run(piece.kind, 1, out);
    if (piece.kind == PieceKind::data) tags_.push_back(piece.tag);
  }
}

void Writer::add_absent(Absent as, std::uint64_t pieces, WriteBatch& out) {
  if (pieces > 0) add_run(as == Absent::zero ? PieceKind::zero : PieceKind::parent, pieces, out);
}

void Writer::add_run(PieceKind kind, std::uint64_t pieces, WriteBatch& out) {
  assert(pieces <= pieces_ - next_);
  const bool extends = !runs_.empty() && kind_of(runs_.back()) == kind;
  if (!extends && runs_.size() == kSegmentRuns) write_segment(out);
  if (extends)
    runs_.back() = runs_.back() + pieces;
  else
    runs_.push_back(static_cast<std::uint64_t>(kind) << kRunKindShift | pieces);
  next_ += pieces;
}

void Writer::write_segment(WriteBatch& out) {
  if (index_.size() == kMostSegments) throw FormatError("digest file: full: " + std::to_string(kMostSegments) + " segments");
  if (!std::exchange(begun_, true)) append(bytes_of(header_), out);
  index_.push_back({segment_first_, size_});
  const SegmentHeader counts{static_cast<std::uint32_t>(runs_.size()), static_cast<std::uint32_t>(tags_.size())};
  append(bytes_of(counts), out);
  append(bytes_of(runs_), out);
  append(bytes_of(tags_), out);
  runs_.clear();
  tags_.clear();
  segment_first_ = next_;
}

Root Writer::finish(WriteBatch& out) {
  assert(next_ == pieces_);
  if (!runs_.empty()) write_segment(out);
  if (!std::exchange(begun_, true)) append(bytes_of(header_), out);
  const Trailer trailer{size_, index_.size()};
  append(bytes_of(index_), out);
  append(bytes_of(trailer), out);
  Root root;
  hash_.finish(root);
  append(root, out);
  return root;
}

void Writer::append(std::span<const std::byte> bytes, WriteBatch& out) {
  if (bytes.empty()) return;
  std::vector<std::byte> copy(bytes.size());
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  hash_.update(bytes);
  out.add_table(HostOffset(size_), std::move(copy));
  size_ += bytes.size();
}

}  // namespace nasbackup::digests
