// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_layer.h.
#include "engine/io/qcow2_layer.h"

#include <algorithm>
#include <cstring>

#include "engine/io/fault.h"
#include "formats/format_error.h"
#include "formats/qcow2_format.h"

namespace nasbackup {

using qcow2::Mapping;
using Kind = Mapping::Kind;

namespace {

/// Streams that follow each other in the file are read together up to here.
constexpr std::uint64_t kStreamsAtOnce = 1u << 20;

Codec codec_of(const qcow2::HeaderFacts& header) noexcept {
  return header.compression_type == qcow2::kZstd ? Codec::zstd : Codec::zlib;
}

/// What the header asks for beyond our knowledge is refused before a table is looked at.
const qcow2::HeaderFacts& readable(const qcow2::HeaderFacts& header, const std::string& path) {
  try {
    qcow2::require_readable(header);
    if (!is_built_in(codec_of(header))) throw FormatError("qcow2 header: compression_type: zstd: not built in");
  } catch (const FormatError& error) {
    throw UnreadableImage(path + ": " + error.what());
  }
  return header;
}

}  // namespace

Qcow2Layer::Qcow2Layer(std::unique_ptr<ImageBytes> bytes, const qcow2::HeaderFacts& header,
                       std::unique_ptr<crypto::AesXts> cipher, std::unique_ptr<ImageLayer> backing)
    : ImageLayer(round_down(header.virtual_size, qcow2::kSectorSize), header.cluster_size),  // as QEMU counts
      bytes_(std::move(bytes)),
      tables_(*bytes_, readable(header, bytes_->path())),
      codec_(codec_of(header)),
      cipher_(std::move(cipher)),
      backing_(std::move(backing)) {}

Mapping Qcow2Layer::mapping(const Qcow2Tables::Table& table, GuestOffset at) const {
  try {
    return tables_.rules().mapping(table, at);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, bytes_->path() + ": guest byte " + std::to_string(at.value) + ": " + error.what());
  }
}

/// The neighbours from `from` on that are mapped alike: of a compressed cluster itself, of plain ones those that lie together.
Qcow2Layer::Piece Qcow2Layer::piece(GuestOffset from, std::uint64_t most) const {
  const qcow2::EntryRules& rules = tables_.rules();
  const std::uint64_t of_table = rules.bytes_per_table() - from.value % rules.bytes_per_table();
  most = std::min({most, of_table, size() - from.value});
  const auto table = tables_.covering(from);
  if (!table) return {{from, most}, {}};
  const Mapping first = mapping(*table, from);
  const std::uint64_t unit = first.kind == Kind::compressed ? rules.cluster_size() : rules.subcluster_size();
  const std::uint64_t skipped = from.value % unit;
  Piece piece{{from, std::min(most, unit - skipped)}, first};
  if (first.kind == Kind::plain) piece.mapping.at += skipped;
  if (first.kind != Kind::compressed) grow(piece, *table, most);
  return piece;
}

void Qcow2Layer::grow(Piece& piece, const Qcow2Tables::Table& table, std::uint64_t most) const {
  const std::uint64_t unit = tables_.rules().subcluster_size();
  while (piece.guest.length < most) {
    const Mapping next = mapping(table, piece.guest.end());
    if (next.kind != piece.mapping.kind) break;
    if (next.kind == Kind::plain && next.at != piece.mapping.at + piece.guest.length) break;
    piece.guest.length += std::min(unit, most - piece.guest.length);
  }
}

Extent Qcow2Layer::extent(GuestOffset from, std::uint64_t most, std::uint64_t granularity) const {
  const auto of = [&](GuestOffset at, std::uint64_t bound) -> Extent {
    const Piece found = piece(at, bound);
    if (found.mapping.kind == Kind::unallocated) return backing_extent(found.guest, granularity);
    return {found.guest, found.mapping.kind == Kind::zero ? ExtentKind::zero : ExtentKind::data};
  };
  Extent run = of(from, most);
  while (run.range.length < most && run.range.end().value < size()) {
    const Extent next = of(run.range.end(), most - run.range.length);
    if (next.kind != run.kind) break;
    run.range.length += next.range.length;
  }
  return run;
}

Extent Qcow2Layer::backing_extent(GuestRange range, std::uint64_t granularity) const {
  if (!backing_ || range.start.value >= backing_->size()) return {range, ExtentKind::zero};
  return backing_->extent(range.start, std::min(range.length, backing_->size() - range.start.value), granularity);
}

void Qcow2Layer::read(GuestOffset from, std::span<std::byte> into, KeptStreams* keep) const {
  std::vector<Piece> streams;  // compressed clusters that lie together
  std::uint64_t stored = 0;    // bytes in the file from the first one's beginning to the last one's end
  const auto read_streams = [&] {
    if (!streams.empty()) read_compressed(streams, from, into, keep);
    streams.clear();
  };
  for (std::uint64_t done = 0; done < into.size();) {
    const Piece next = piece(from + done, into.size() - done);
    if (next.mapping.kind != Kind::compressed) {
      read_piece(next, into.subspan(done, next.guest.length), keep);
    } else {
      if (!streams.empty() && !follows(streams.back(), next, stored)) read_streams();
      streams.push_back(next);
      stored = next.mapping.at + next.mapping.stored - streams.front().mapping.at;
    }
    done += next.guest.length;
  }
  read_streams();
}

/// Descriptors count whole sectors, so that neighbours overlap by less than one.
bool Qcow2Layer::follows(const Piece& last, const Piece& next, std::uint64_t stored) const noexcept {
  const HostOffset end = last.mapping.at + last.mapping.stored;
  return next.mapping.at > last.mapping.at && next.mapping.at <= end && next.mapping.at + next.mapping.stored > end &&
         stored < kStreamsAtOnce;
}

void Qcow2Layer::read_piece(const Piece& piece, std::span<std::byte> into, KeptStreams* keep) const {
  if (piece.mapping.kind == Kind::plain) return read_plain(piece, into);
  if (piece.mapping.kind == Kind::unallocated && backing_) return read_backing(piece, into, keep);
  std::memset(into.data(), 0, into.size());
}

void Qcow2Layer::read_backing(const Piece& piece, std::span<std::byte> into, KeptStreams* keep) const {
  const std::uint64_t below = backing_->size() - std::min(backing_->size(), piece.guest.start.value);
  const std::uint64_t length = std::min<std::uint64_t>(below, into.size());
  if (length > 0) backing_->read(piece.guest.start, into.first(length), keep);
  std::memset(into.data() + length, 0, into.size() - length);
}

// QEMU reads what the file lacks as zero; a guest's data that is not there is damage. In an encrypted image the tweak is the
// place in the file (section "Data encryption").
void Qcow2Layer::read_plain(const Piece& piece, std::span<std::byte> into) const {
  if (!cipher_) return bytes_->read(piece.mapping.at.value, into);
  constexpr std::uint64_t kSector = crypto::AesXts::kSectorBytes;
  const std::uint64_t skipped = piece.mapping.at.value % kSector, first = piece.mapping.at.value / kSector;
  if (skipped == 0 && into.size() % kSector == 0) {
    bytes_->read(piece.mapping.at.value, into);
    return cipher_->decrypt(first, into);
  }
  std::vector<std::byte> sectors(round_up(skipped + into.size(), kSector));
  bytes_->read(first * kSector, sectors);
  cipher_->decrypt(first, sectors);
  std::memcpy(into.data(), sectors.data() + skipped, into.size());
}

/// `into` begins at `from`. The last stream's last sector may be cut off by the end of the file: readers stop before it.
void Qcow2Layer::read_compressed(const std::vector<Piece>& pieces, GuestOffset from, std::span<std::byte> into,
                                 KeptStreams* keep) const {
  const HostOffset start = pieces.front().mapping.at;
  std::vector<std::byte> stored(pieces.back().mapping.at + pieces.back().mapping.stored - start);
  stored.resize(bytes_->read_up_to(start.value, stored));
  for (const Piece& piece : pieces) {
    const std::uint64_t begin = std::min<std::uint64_t>(piece.mapping.at - start, stored.size());
    const std::uint64_t length = std::min(piece.mapping.stored, stored.size() - begin);
    if (piece.mapping.stored - length >= qcow2::kCompressedSector)
      throw Fault(FaultKind::damaged, bytes_->path() + ": guest byte " + std::to_string(piece.guest.start.value) +
                                          ": its compressed cluster at file offset " + std::to_string(piece.mapping.at.value) +
                                          " goes beyond the file's end");
    decompress(piece, std::span(stored).subspan(begin, length), into.subspan(piece.guest.start - from, piece.guest.length), keep);
  }
}

/// A stream is kept only where all of its cluster is read, and so can be compared.
void Qcow2Layer::decompress(const Piece& piece, std::span<const std::byte> stream, std::span<std::byte> into,
                            KeptStreams* keep) const {
  const std::uint64_t cluster = tables_.rules().cluster_size();
  try {
    const auto decompressor = decompressors_.lease([&] { return make_decompressor(codec_); });
    if (into.size() == cluster) {
      const std::size_t length = decompressor->decompress(stream, into);
      if (keep != nullptr && keep->wants(codec_, cluster)) keep->keep(piece.guest.start, stream.first(length));
      return;
    }
    std::vector<std::byte> whole(cluster);
    decompressor->decompress(stream, whole);
    std::memcpy(into.data(), whole.data() + piece.guest.start.value % cluster, into.size());
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, bytes_->path() + ": guest byte " + std::to_string(piece.guest.start.value) +
                                        ": its compressed cluster at file offset " + std::to_string(piece.mapping.at.value) +
                                        ": " + error.what());
  }
}

std::optional<FilePlace> Qcow2Layer::locate(GuestOffset at) const {
  const Piece found = piece(at, 1);
  if (found.mapping.kind == Kind::plain || found.mapping.kind == Kind::compressed)
    return bytes_->place_of(found.mapping.at.value);
  if (found.mapping.kind == Kind::unallocated && backing_ && at.value < backing_->size()) return backing_->locate(at);
  return std::nullopt;
}

void Qcow2Layer::confirm() {
  bytes_->confirm_unchanged();
  if (backing_) backing_->confirm();
}

}  // namespace nasbackup
