// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Digest files: what the writer writes the reader gives back, however the pieces came; what is damaged or made up is refused.
#include <gtest/gtest.h>

#include <random>

#include "formats/digest_reader.h"
#include "formats/digest_writer.h"
#include "formats/format_error.h"
#include "tests/unit/crypto/counting_random.h"
#include "tests/unit/crypto/hex.h"
#include "tests/unit/formats/memory_image.h"

namespace nasbackup::digests {
namespace {

constexpr std::uint64_t kPiece = 64u << 10;

Tag tag_of(std::uint64_t number) {
  Tag tag;
  for (std::size_t i = 0; i < tag.size(); ++i) tag[i] = static_cast<std::byte>(number * 31 + i * 7 + number / 256);
  return tag;
}

/// Runs of both kinds; the lengths come from the seed.
std::vector<PieceDigest> pieces(std::uint64_t count, std::uint32_t seed, std::uint32_t longest) {
  std::mt19937 random(seed);
  std::vector<PieceDigest> all(count);
  bool data = false;
  for (std::uint64_t at = 0; at < count; data = !data)
    for (std::uint64_t run = 1 + random() % longest; run > 0 && at < count; --run, ++at)
      if (data) all[at] = {PieceKind::data, tag_of(at)};
  return all;
}

struct Written {
  std::vector<std::byte> bytes;
  Root root;
};

/// In calls of `step` pieces; runs of zeroes that fill a step are added as such.
Written write(const std::vector<PieceDigest>& all, std::uint64_t step, std::uint64_t virtual_size) {
  MemoryImage image;
  Writer writer(Kind::xxh3_128, kPiece, virtual_size, {});
  for (std::uint64_t at = 0; at < all.size(); at += step) {
    WriteBatch batch;
    const auto some = std::span(all).subspan(at, std::min<std::uint64_t>(step, all.size() - at));
    const bool zero = std::all_of(some.begin(), some.end(), [](const auto& piece) { return piece.kind == PieceKind::zero; });
    if (zero && step > 1)
      writer.add_absent(Absent::zero, some.size(), batch);
    else
      writer.add(some, batch);
    image.apply(batch);
  }
  WriteBatch rest;
  const Root root = writer.finish(rest);
  image.apply(rest);
  EXPECT_EQ(image.bytes().size(), writer.file_size());
  return {image.bytes(), root};
}

Written write(const std::vector<PieceDigest>& all, std::uint64_t step = 8) { return write(all, step, all.size() * kPiece); }

Reader reader_of(const std::vector<std::byte>& bytes) {
  const auto read = [&bytes](std::uint64_t offset, std::span<std::byte> into) {
    if (offset > bytes.size() || bytes.size() - offset < into.size()) throw FormatError("read behind the end");
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
  };
  return Reader(read, bytes.size());
}

/// Reads everything there is to read.
void read_all(const std::vector<std::byte>& bytes) {
  Reader reader = reader_of(bytes);
  for (std::uint64_t number = 0; number < reader.pieces() && number < 200'000; ++number) reader.at(number);
}

TEST(DigestFile, GivesEveryPieceBackInAnyOrder) {
  for (const std::uint64_t count : {1, 7, 1000, 50'000}) {
    const auto all = pieces(count, 3, 9);
    const auto file = write(all);
    Reader reader = reader_of(file.bytes);
    ASSERT_EQ(reader.pieces(), count);
    EXPECT_EQ(reader.root(), file.root);
    reader.check_root();
    std::mt19937 random(1);
    for (std::uint64_t i = 0; i < count; ++i) ASSERT_EQ(reader.at(i), all[i]) << i;
    for (int i = 0; i < 1000; ++i) {
      const std::uint64_t number = random() % count;
      ASSERT_EQ(reader.at(number), all[number]) << number;
    }
  }
}

TEST(DigestFile, IsTheSameBytesHoweverThePiecesCome) {
  for (const std::uint32_t longest : {1u, 3u, 40'000u}) {
    const auto all = pieces(100'000, 5, longest);
    const auto reference = write(all, 1);
    for (const std::uint64_t step : {2, 8, 4096, 100'000})
      EXPECT_TRUE(write(all, step).bytes == reference.bytes) << longest << ' ' << step;
  }
}

TEST(DigestFile, IsAtMostAHalfOfAThousandthOfTheData) {
  for (const std::uint32_t longest : {1u, 2u, 1000u}) {
    const auto all = pieces(200'000, 6, longest);
    const auto data = std::count_if(all.begin(), all.end(), [](const auto& piece) { return piece.kind == PieceKind::data; });
    EXPECT_LT(write(all).bytes.size(), 0.0005 * static_cast<double>(data) * kPiece) << longest;
  }
}

TEST(DigestFile, OfAnEmptyDiskIsTiny) {
  const auto read_back = [](std::uint64_t size) {
    MemoryImage image;
    WriteBatch batch;
    Writer writer(Kind::xxh3_128, kPiece, size, {});
    writer.add_absent(Absent::zero, pieces_of(size, kPiece), batch);
    writer.finish(batch);
    image.apply(batch);
    EXPECT_LT(image.bytes().size(), 200u);
    Reader reader = reader_of(image.bytes());
    EXPECT_EQ(reader.virtual_size(), size);
    if (reader.pieces() != 0) {
      EXPECT_EQ(reader.at(reader.pieces() - 1).kind, PieceKind::zero);
    }
  };
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{16} << 40, kMostVirtualSize})
    read_back(size);
}

TEST(DigestFile, ThatAnybodyHasWrittenByTheDocumentIsRead) {
  // One data piece between zeroes, by hand.
  std::string hex =
      "6e6264696765737400000001000000010000000000010000"
      "0000000000030000";
  hex += std::string(2 * 48, '0');  // salt, reserved
  hex +=
      "0000000300000001"
      "0000000000000001"
      "0100000000000001"
      "0000000000000001";                     // segment: zero, data, zero
  hex += "00112233445566778899aabbccddeeff";  // tag
  hex +=
      "0000000000000000"
      "0000000000000050";  // index
  hex +=
      "0000000000000080"
      "0000000000000001";  // trailer
  auto bytes = from_hex(hex);
  Root root;
  crypto::Digest digest(crypto::Hash::sha256);
  digest.update(bytes);
  digest.finish(root);
  bytes.insert(bytes.end(), root.begin(), root.end());
  Reader reader = reader_of(bytes);
  reader.check_root();
  EXPECT_EQ(reader.at(0).kind, PieceKind::zero);
  EXPECT_EQ(to_hex(reader.at(1).tag), "00112233445566778899aabbccddeeff");
  EXPECT_EQ(reader.at(2).kind, PieceKind::zero);
}

TEST(DigestFile, WithAnyByteChangedHasAnotherRootOrIsRefused) {
  const auto file = write(pieces(300, 7, 5)).bytes;
  for (std::size_t at = 0; at < file.size(); ++at) {
    auto changed = file;
    changed[at] ^= std::byte{1};
    EXPECT_THROW(reader_of(changed).check_root(), FormatError) << at;
  }
}

TEST(DigestFile, CutAnywhereIsRefused) {
  const auto file = write(pieces(300, 7, 5)).bytes;
  for (std::size_t size = 0; size < file.size(); ++size)
    EXPECT_THROW(reader_of({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)}).check_root(), FormatError) << size;
}

void put(std::vector<std::byte>& bytes, std::size_t at, std::uint64_t value) {
  for (std::size_t i = 0; i < 8; ++i) bytes[at + i] = static_cast<std::byte>(value >> (56 - 8 * i));
}

TEST(DigestFile, WithHostileNumbersIsRefusedBeforeMemoryIsTaken) {
  const auto file = write(pieces(40'000, 8, 4)).bytes;
  const std::size_t trailer = file.size() - 48;
  ASSERT_EQ(file[trailer + 15], std::byte{2}) << "two segments";
  for (const std::size_t at :
       {std::size_t{16}, std::size_t{24}, std::size_t{80}, std::size_t{88}, trailer, trailer + 8, trailer - 16, trailer - 8})
    for (const std::uint64_t value : {std::uint64_t{1}, std::uint64_t{1} << 32, std::uint64_t{1} << 63, UINT64_MAX}) {
      auto changed = file;
      put(changed, at, value);
      EXPECT_THROW(read_all(changed), FormatError) << at << ' ' << value;
    }
}

/// Under ASan and UBSan anything but a FormatError shows.
TEST(DigestFile, OfRandomChangesNeverDoesHarm) {
  const auto file = write(pieces(40'000, 9, 3)).bytes;
  std::mt19937 random(4);
  for (int turn = 0; turn < 300; ++turn) {
    auto changed = file;
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
      const std::size_t from_end = random() % 200, from_start = random() % 200;
      changed[random() % 2 != 0 ? from_start : changed.size() - 1 - from_end] = static_cast<std::byte>(random());
    }
    try {
      read_all(changed);
    } catch (const FormatError&) {
      continue;
    }
  }
}

TEST(DigestFile, OfAnIncrementTellsWhatItLeavesToItsParent) {
  auto all = pieces(300, 7, 5);
  for (std::size_t number = 40; number < 90; ++number) all[number] = {PieceKind::parent, {}};
  const auto file = write(all);
  Reader reader = reader_of(file.bytes);
  for (std::uint64_t number = 0; number < all.size(); ++number) ASSERT_EQ(reader.at(number), all[number]) << number;
  EXPECT_EQ(reader.run_until(41), 90u);
}

TEST(DigestFile, HasNoOtherKindsOfPieces) {
  auto file = write(pieces(300, 7, 5)).bytes;
  file[88] = std::byte{3};
  EXPECT_THROW(read_all(file), FormatError);
}

TEST(DigestFile, HasNoOtherPieceSizes) {
  for (const std::uint64_t size : {0u, 512u, 65535u, 65537u, 3u << 16, 4u << 20})
    EXPECT_THROW(Writer(Kind::xxh3_128, size, 1 << 20, {}), FormatError) << size;
  EXPECT_THROW(Writer(Kind::xxh3_128, kPiece, kMostVirtualSize + 1, {}), FormatError);
}

std::vector<std::byte> some_bytes(std::size_t size) {
  std::vector<std::byte> bytes(size);
  CountingRandom random(3);
  random.fill(bytes);
  return bytes;
}

TEST(PieceDigester, CallsAPieceOfZeroesZeroAndTagsTheOthers) {
  auto bytes = some_bytes(3 * kPiece);
  std::fill(bytes.begin() + kPiece, bytes.begin() + 2 * kPiece, std::byte{0});
  CountingRandom random;
  crypto::Secret key(32);
  random.fill(key.bytes());
  for (const PieceDigester& digester : {PieceDigester(kPiece), PieceDigester(kPiece, key)}) {
    const auto digests = digester.take(5, bytes);
    ASSERT_EQ(digests.size(), 3u);
    EXPECT_EQ(digests[0].kind, PieceKind::data);
    EXPECT_EQ(digests[1], PieceDigest{});
    EXPECT_NE(digests[0].tag, digests[2].tag);
    EXPECT_EQ(digester.take(7, std::span(bytes).last(kPiece)).front(), digests[2]) << "one by one or together";
  }
}

TEST(PieceDigester, FindsEveryPieceThatIsNotWhatItWas) {
  const auto bytes = some_bytes(kPiece);
  CountingRandom random;
  crypto::Secret key(32);
  random.fill(key.bytes());
  for (const PieceDigester& digester : {PieceDigester(kPiece), PieceDigester(kPiece, key)}) {
    const PieceDigest expected = digester.take(9, bytes).front();
    EXPECT_TRUE(digester.matches(9, bytes, expected));
    auto changed = bytes;
    changed[kPiece - 1] ^= std::byte{1};
    EXPECT_FALSE(digester.matches(9, changed, expected));
    EXPECT_FALSE(digester.matches(9, std::vector<std::byte>(kPiece), expected));
    EXPECT_FALSE(digester.matches(9, bytes, PieceDigest{}));
    EXPECT_TRUE(digester.matches(9, std::vector<std::byte>(kPiece), PieceDigest{}));
    EXPECT_EQ(digester.matches(10, bytes, expected), digester.kind() == Kind::xxh3_128) << "moved";
  }
}

TEST(PieceDigester, HasAKeyOfEachVolumeKeyAndSalt) {
  const auto a = some_bytes(64), b = some_bytes(32);
  Salt salt{}, other{};
  other[0] = std::byte{1};
  EXPECT_NE(to_hex(tag_key(a, salt).bytes()), to_hex(tag_key(b, salt).bytes()));
  EXPECT_NE(to_hex(tag_key(a, salt).bytes()), to_hex(tag_key(a, other).bytes()));
}

}  // namespace
}  // namespace nasbackup::digests
