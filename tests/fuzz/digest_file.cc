// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: digest files. The input is the file. It is read as it is, and then with trailer and root put right, so that a
// change of its length does not end at the door. Promised: every piece has a digest or the file is refused, in any order; runs of
// zeroes are what the pieces are; and what was read, written again, is the same file.
#include <algorithm>
#include <cstring>

#include "crypto/digest.h"
#include "formats/digest_reader.h"
#include "formats/digest_writer.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup::digests {
namespace {

using fuzz::accepted;
using fuzz::Bytes;
using fuzz::require;

/// A run may count 2^56 pieces: of longer disks the file is opened, and its beginning read.
constexpr std::uint64_t kMostPieces = 20'000;

class File {
 public:
  explicit File(std::span<const std::byte> bytes) : bytes_(bytes) {}

  void run() {
    auto reader =
        accepted([&] { return Reader([this](std::uint64_t at, std::span<std::byte> into) { read(at, into); }, bytes_.size()); });
    if (!reader) return;
    const bool root_good = accepted([&] { return reader->check_root(), true; }).has_value();
    const auto pieces = accepted([&] { return all(*reader); });
    if (pieces && root_good && pieces->size() == reader->pieces()) write_again(*reader, *pieces);
  }

 private:
  void read(std::uint64_t at, std::span<std::byte> into) const {
    require(at <= bytes_.size() && into.size() <= bytes_.size() - at, "only what is in the file is read");
    std::memcpy(into.data(), bytes_.data() + at, into.size());
  }

  static std::vector<PieceDigest> all(Reader& reader) {
    std::vector<PieceDigest> pieces;
    const std::uint64_t count = std::min(kMostPieces, reader.pieces());
    for (std::uint64_t number = 0; number < count;) {
      const std::uint64_t end = std::min(count, reader.run_until(number));
      for (; number < end; ++number) pieces.push_back(reader.at(number));
    }
    for (std::uint64_t back = count; back > 0; back -= std::min<std::uint64_t>(back, 977))
      require(reader.at(back - 1) == pieces[back - 1], "a piece is the same in any order");
    return pieces;
  }

  void write_again(const Reader& reader, const std::vector<PieceDigest>& pieces) const {
    Writer writer(reader.kind(), reader.piece_size(), reader.virtual_size(), reader.salt());
    WriteBatch batch;
    writer.add(pieces, batch);
    require(writer.finish(batch) == reader.root(), "the root is the same");
    Bytes again;
    for (const FileWrite& write : batch.writes())
      for (const FilePiece& piece : write.pieces) again.insert(again.end(), piece.bytes.begin(), piece.bytes.end());
    require(std::ranges::equal(again, bytes_), "what was read is written as it was");
  }

  std::span<const std::byte> bytes_;
};

/// Trailer and root as they must be behind so many segments; the index stands before them.
Bytes with_end_put_right(std::span<const std::byte> bytes) {
  constexpr std::size_t kEnd = sizeof(Trailer) + sizeof(Root);
  Bytes file(bytes.begin(), bytes.end());
  Trailer trailer;
  const std::size_t at = file.size() - kEnd;
  std::memcpy(static_cast<void*>(&trailer), file.data() + at, sizeof trailer);
  trailer.segments = trailer.segments % 4;
  trailer.index_offset = at - std::min<std::uint64_t>(at, trailer.segments * sizeof(IndexEntry));
  std::memcpy(file.data() + at, static_cast<const void*>(&trailer), sizeof trailer);
  crypto::Digest digest(crypto::Hash::sha256);
  digest.update(std::span(file).first(file.size() - sizeof(Root)));
  digest.finish(std::span(file).last(sizeof(Root)));
  return file;
}

void run(std::span<const std::byte> bytes) {
  File(bytes).run();
  if (bytes.size() < sizeof(Header) + sizeof(Trailer) + sizeof(Root)) return;
  const Bytes right = with_end_put_right(bytes);
  File(right).run();
}

}  // namespace
}  // namespace nasbackup::digests

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::digests::run(nasbackup::fuzz::bytes_of(data, size));
  return 0;
}
