// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See digest_reader.h.
#include "formats/digest_reader.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <string>
#include <utility>

#include "crypto/digest.h"
#include "crypto/secret.h"
#include "formats/format_error.h"
#include "formats/is_zero.h"
#include "formats/units.h"

namespace nasbackup::digests {

namespace {

constexpr std::uint64_t kEndBytes = sizeof(Trailer) + sizeof(Root);
constexpr std::size_t kReadAtOnce = 256u << 10;

[[noreturn]] void refuse(const std::string& what) { throw FormatError("digest file: " + what); }
[[noreturn]] void refuse(const std::string& what, std::uint64_t value) { refuse(what + ": " + std::to_string(value)); }

std::uint64_t length_of(const SegmentHeader& counts) noexcept {
  return sizeof counts + std::uint64_t{counts.runs} * sizeof(Be64) + std::uint64_t{counts.tags} * sizeof(Tag);
}

bool is_full(const SegmentHeader& counts) noexcept { return counts.runs == kSegmentRuns || counts.tags == kSegmentTags; }

}  // namespace

template <class T>
T Reader::read_struct(std::uint64_t offset) const {
  T value;
  read_(offset, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

Reader::Reader(ReadAt read, std::uint64_t file_size) : read_(std::move(read)), file_size_(file_size) {
  if (file_size < sizeof(Header) + kEndBytes) refuse("too short: bytes", file_size);
  read_header();
  read_index();
}

void Reader::read_header() {
  const auto header = read_struct<Header>(0);
  if (header.magic != kMagic) refuse("it is none: no magic");
  if (header.version != kVersion) refuse("version", header.version);
  if (header.kind != static_cast<std::uint32_t>(Kind::xxh3_128) && header.kind != static_cast<std::uint32_t>(Kind::gmac_aes_256))
    refuse("kind", header.kind);
  kind_ = static_cast<Kind>(std::uint32_t{header.kind});
  piece_size_ = header.piece_size;
  virtual_size_ = header.virtual_size;
  if (!std::has_single_bit(piece_size_) || piece_size_ < kLeastPiece || piece_size_ > kMostPiece)
    refuse("piece size", piece_size_);
  if (virtual_size_ > kMostVirtualSize) refuse("virtual size", virtual_size_);
  if (!is_zero(header.reserved)) refuse("reserved bytes are not zero");
  if (kind_ == Kind::xxh3_128 && !is_zero(header.salt)) refuse("a salt without a key");
  pieces_ = div_round_up(virtual_size_, piece_size_);
  salt_ = header.salt;
}

// All but the last segment are full, so that the index is small against the file it belongs to.
void Reader::read_index() {
  const auto trailer = read_struct<Trailer>(file_size_ - kEndBytes);
  root_ = read_struct<Root>(file_size_ - sizeof(Root));
  const std::uint64_t segments = trailer.segments;
  if (segments > kMostSegments || segments > pieces_ / kSegmentRuns + 1) refuse("number of segments", segments);
  if ((segments == 0) != (pieces_ == 0)) refuse("number of segments", segments);
  const std::uint64_t room = file_size_ - sizeof(Header) - kEndBytes, index_bytes = segments * sizeof(IndexEntry);
  if (index_bytes > room || trailer.index_offset != file_size_ - kEndBytes - index_bytes)
    refuse("index offset", trailer.index_offset);
  index_offset_ = trailer.index_offset;
  if (segments == 0 && index_offset_ != sizeof(Header)) refuse("index offset", index_offset_);
  index_.resize(segments);
  if (segments != 0) read_(index_offset_, std::as_writable_bytes(std::span(index_)));
  for (std::size_t i = 0; i < segments; ++i) check_entry(i);
}

/// Both columns rise from where the first segment must be.
void Reader::check_entry(std::size_t segment) const {
  const std::uint64_t offset = index_[segment].offset, piece = index_[segment].first_piece;
  const bool offset_good = segment == 0 ? offset == sizeof(Header) : offset > index_[segment - 1].offset;
  const bool piece_good = segment == 0 ? piece == 0 : piece > index_[segment - 1].first_piece;
  if (!offset_good || offset >= index_offset_) refuse("index: offset", offset);
  if (!piece_good || piece >= pieces_) refuse("index: first piece", piece);
}

void Reader::check_root(const std::function<void()>& go_on) const {
  crypto::Digest digest(crypto::Hash::sha256);
  std::vector<std::byte> part(kReadAtOnce);
  const std::uint64_t end = file_size_ - sizeof(Root);
  for (std::uint64_t at = 0; at < end; at += part.size()) {
    if (go_on) go_on();
    const auto now = std::span(part).first(std::min<std::uint64_t>(part.size(), end - at));
    read_(at, now);
    digest.update(now);
  }
  Root found;
  digest.finish(found);
  if (!crypto::same_bytes(found, root_)) refuse("its root is not that of what is in it");
}

std::uint64_t Reader::first_piece_behind(std::size_t segment) const noexcept {
  return segment + 1 < index_.size() ? std::uint64_t{index_[segment + 1].first_piece} : pieces_;
}

std::uint64_t Reader::end_of(std::size_t segment) const noexcept {
  return segment + 1 < index_.size() ? std::uint64_t{index_[segment + 1].offset} : index_offset_;
}

void Reader::load(std::size_t number) {
  segment_.number = SIZE_MAX;  // in case of a failure half-way
  const std::uint64_t offset = index_[number].offset, room = end_of(number) - offset;
  if (room < sizeof(SegmentHeader)) refuse("segment " + std::to_string(number) + ": bytes", room);
  const auto counts = read_struct<SegmentHeader>(offset);
  if (counts.runs == 0 || counts.runs > kSegmentRuns || counts.tags > kSegmentTags || length_of(counts) != room)
    refuse("segment " + std::to_string(number) + ": runs and tags do not fill it: bytes", room);
  if (number + 1 < index_.size() && !is_full(counts))
    refuse("segment " + std::to_string(number) + " is neither full nor the last");
  std::vector<Be64> words(counts.runs);
  read_(offset + sizeof counts, std::as_writable_bytes(std::span(words)));
  segment_.tags.resize(counts.tags);
  if (!segment_.tags.empty())
    read_(offset + sizeof counts + words.size() * sizeof(Be64), std::as_writable_bytes(std::span(segment_.tags)));
  segment_.first = index_[number].first_piece;
  read_runs(words);
  if (segment_.runs.back().end != first_piece_behind(number))
    refuse("segment " + std::to_string(number) + ": its runs end at piece", segment_.runs.back().end);
  segment_.number = number;
}

void Reader::read_runs(std::span<const Be64> words) {
  std::uint64_t piece = segment_.first, tag = 0;
  segment_.runs.clear();
  for (const std::uint64_t word : words) {
    const auto kind = static_cast<PieceKind>(word >> kRunKindShift);
    const std::uint64_t count = word & kMostPiecesOfRun;
    if (kind > PieceKind::parent) refuse("run: kind", word >> kRunKindShift);
    if (count == 0 || count > pieces_ - piece) refuse("run: pieces", count);
    if (!segment_.runs.empty() && segment_.runs.back().kind == kind) refuse("two neighbouring runs of one kind at piece", piece);
    piece += count;
    segment_.runs.push_back({piece, kind, tag});
    if (kind == PieceKind::data) tag += count;
    if (tag > segment_.tags.size()) refuse("run: more pieces than tags at piece", piece);
  }
  if (tag != segment_.tags.size()) refuse("tags that no piece has", segment_.tags.size() - tag);
}

/// The run that holds a piece; its segment is loaded.
std::vector<Reader::Run>::const_iterator Reader::find(std::uint64_t number) {
  assert(number < pieces_);
  if (segment_.number == SIZE_MAX || number < segment_.first || number >= segment_.runs.back().end) {
    const auto behind = std::upper_bound(index_.begin(), index_.end(), number,
                                         [](std::uint64_t piece, const IndexEntry& entry) { return piece < entry.first_piece; });
    load(static_cast<std::size_t>(behind - index_.begin()) - 1);
  }
  return std::upper_bound(segment_.runs.begin(), segment_.runs.end(), number,
                          [](std::uint64_t piece, const Run& one) { return piece < one.end; });
}

PieceDigest Reader::at(std::uint64_t number) {
  const auto run = find(number);
  if (run->kind != PieceKind::data) return {run->kind, {}};
  const std::uint64_t begin = run == segment_.runs.cbegin() ? segment_.first : std::prev(run)->end;
  return {PieceKind::data, segment_.tags[run->first_tag + (number - begin)]};
}

}  // namespace nasbackup::digests
