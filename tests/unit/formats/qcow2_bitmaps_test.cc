// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "formats/qcow2_bitmaps.h"

#include <functional>
#include <map>

#include "formats/format_error.h"
#include "formats/qcow2_bitmap_addition.h"
#include "formats/qcow2_header_reader.h"
#include "hand_made_image.h"

namespace nasbackup::qcow2 {
namespace {

using Bytes = std::vector<std::byte>;

ReadUpTo reader_of(const Bytes& bytes) {
  return [&bytes](std::uint64_t offset, std::span<std::byte> into) {
    if (offset >= bytes.size()) return std::size_t{0};
    const std::size_t got = std::min<std::size_t>(into.size(), bytes.size() - offset);
    std::memcpy(into.data(), bytes.data() + offset, got);
    return got;
  };
}

void write(Bytes& image, std::uint64_t offset, const Bytes& bytes) {
  if (image.size() < offset + bytes.size()) image.resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), image.begin() + static_cast<std::ptrdiff_t>(offset));
}

/// After each write `look` sees what a stop would leave.
void add(
    Bytes& image, const std::string& name, const std::function<void(const Bytes&)>& look = [](const Bytes&) {}) {
  const BitmapAddition addition = plan_bitmap(reader_of(image), image.size(), name);
  for (const auto& stage : addition.stages)
    for (const ImageWrite& change : stage) write(image, change.offset, change.now), look(image);
}

CheckHeader header_of(const Bytes& image) { return parse_check_header(image); }

std::vector<StoredBitmap> bitmaps_of(const Bytes& image) {
  const CheckHeader header = header_of(image);
  return parse_bitmap_directory(std::span(image).subspan(header.bitmap_directory_offset, header.bitmap_directory_bytes),
                                header.bitmaps);
}

void expect_clean(const Bytes& image) {
  const Outcome outcome = check_bytes(image);
  EXPECT_EQ(outcome.corruptions() + outcome.leaks() + outcome.count(FindingKind::check_error), 0u) << outcome.text();
}

std::string refusal(const Bytes& image, const std::string& name) {
  try {
    plan_bitmap(reader_of(image), image.size(), name);
  } catch (const FormatError& error) {
    return error.what();
  }
  return {};
}

TEST(Qcow2Bitmaps, AreAddedToImagesOfEveryRefcountWidth) {
  for (unsigned order = 0; order <= 6; ++order) {
    Bytes image = HandMade(3, order).bytes();
    add(image, "first");
    add(image, "second");
    expect_clean(image);
    const auto bitmaps = bitmaps_of(image);
    ASSERT_EQ(bitmaps.size(), 2u);
    EXPECT_EQ(bitmaps[0].name + bitmaps[1].name, "firstsecond");
    EXPECT_EQ(bitmaps[1].flags, kBitmapAuto);
    EXPECT_EQ(bitmaps[1].granularity_bits, 12);
    EXPECT_EQ(header_of(image).autoclear_features, kAutoclearBitmaps);
  }
}

TEST(Qcow2Bitmaps, AStopAfterAnyWriteLeavesAnImageThatOpensAndLeaksAtWorst) {
  Bytes image = HandMade().bytes();
  unsigned looks = 0;
  for (const std::string name : {"first", "second"})
    add(image, name, [&](const Bytes& now) {
      const Outcome outcome = check_bytes(now);
      EXPECT_EQ(outcome.corruptions() + outcome.count(FindingKind::check_error), 0u) << ++looks << outcome.text();
      ++looks;
    });
  EXPECT_EQ(looks, 3u + 4u);  // room, refcounts, header; then also the old directory
}

TEST(Qcow2Bitmaps, WhatWasWrittenCanBeTakenBackByteForByte) {
  Bytes image = HandMade().bytes();
  add(image, "first");
  const Bytes before = image;
  const BitmapAddition addition = plan_bitmap(reader_of(image), image.size(), "second");
  for (const auto& stage : addition.stages)
    for (const ImageWrite& change : stage) write(image, change.offset, change.now);
  EXPECT_NE(image, before);
  for (auto stage = addition.stages.rbegin(); stage != addition.stages.rend(); ++stage)
    for (const ImageWrite& change : *stage) write(image, change.offset, change.old);
  image.resize(before.size());
  EXPECT_EQ(image, before);
}

TEST(Qcow2Bitmaps, AreNotAddedToAnImageWithoutARefcountTable) {
  Bytes image = HandMade().bytes();
  const Be32 none = 0u;
  std::memcpy(image.data() + offsetof(Header, refcount_table_clusters), static_cast<const void*>(&none), sizeof none);
  EXPECT_NE(refusal(image, "first").find("there is no refcount table"), std::string::npos);
}

/// A file that is mostly hole: what was written lies over a hand-made image.
class SparseImage {
 public:
  explicit SparseImage(std::uint64_t size) : size_(size) {}

  void add(const std::string& name) {
    const BitmapAddition addition = plan_bitmap(read_, size_, name);
    for (const auto& stage : addition.stages)
      for (const ImageWrite& change : stage) put(change), expect_sound();
  }
  Outcome check() const { return {check_metadata(read_, size_, header())}; }
  CheckHeader header() const {
    Bytes start(kCluster);
    read_(0, start);
    return parse_check_header(start);
  }

 private:
  void put(const ImageWrite& change) {
    for (std::uint64_t i = 0; i < change.now.size(); ++i) {
      const std::uint64_t at = change.offset + i;
      written_.try_emplace(at / kCluster, kCluster).first->second[at % kCluster] = change.now[i];
    }
    size_ = std::max(size_, change.offset + change.now.size());
  }
  void expect_sound() const { EXPECT_EQ(check().corruptions(), 0u) << check().text(); }

  std::map<std::uint64_t, Bytes> written_ = [] {
    std::map<std::uint64_t, Bytes> clusters;
    HandMade made(3, 6);
    for (std::uint64_t i = 0; i < 8; ++i) {
      const auto at = made.bytes().begin() + static_cast<std::ptrdiff_t>(i * kCluster);
      clusters[i] = Bytes(at, at + kCluster);
    }
    return clusters;
  }();
  std::uint64_t size_;
  ReadUpTo read_ = [this](std::uint64_t offset, std::span<std::byte> into) {
    for (std::uint64_t i = 0; i < into.size(); ++i) {
      const auto found = written_.find((offset + i) / kCluster);
      into[i] = found == written_.end() ? std::byte{} : found->second[(offset + i) % kCluster];
    }
    return static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), size_ - std::min(size_, offset)));
  };
};

// 4 KiB clusters with refcounts of 64 bits: a block counts 2 MiB, a cluster of the table 512 blocks.
TEST(Qcow2Bitmaps, NewRefcountBlocksAndALargerTableAreMadeWhereTheyAreNeeded) {
  for (const std::uint64_t size : {512 * kCluster, 512 * 512 * kCluster}) {  // behind the first block; behind the table
    SparseImage image(size);
    image.add("first");
    image.add("second");
    EXPECT_EQ(image.check().leaks(), 0u) << image.check().text();
    EXPECT_EQ(image.header().bitmaps, 2u);
    EXPECT_EQ(image.header().refcount_table_clusters, size > 512 * kCluster ? 2u : 1u);
  }
}

TEST(Qcow2Bitmaps, TheNameOfABackingFileMovesOutOfTheWay) {
  HandMade made;
  const std::string name = "a-template-of-some-name";
  made.put64(8, 120), made.put32(16, static_cast<std::uint32_t>(name.size()));
  std::memcpy(made.bytes().data() + 120, name.data(), name.size());
  for (const char* bitmap : {"first", "second"}) {
    add(made.bytes(), bitmap);
    EXPECT_EQ(parse_header(made.bytes()).backing_file, name);
  }
  expect_clean(made.bytes());
}

TEST(Qcow2Bitmaps, AHeaderWithoutRoomIsLeftAlone) {
  HandMade made;
  made.put32(112, 0x12345678), made.put32(116, static_cast<std::uint32_t>(kCluster - 120 - 32));
  EXPECT_NE(refusal(made.bytes(), "b").find("no room"), std::string::npos);
  made.put32(116, static_cast<std::uint32_t>(kCluster - 120 - 40));
  add(made.bytes(), "b");
  expect_clean(made.bytes());
}

TEST(Qcow2Bitmaps, WhatQemuWouldRefuseIsRefused) {
  Bytes image = HandMade().bytes();
  add(image, "name");
  EXPECT_NE(refusal(image, "name").find("is there already"), std::string::npos);
  EXPECT_NE(refusal(image, std::string(1024, 'x')).find("1 to 1023"), std::string::npos);
  EXPECT_NE(refusal(image, "").find("1 to 1023"), std::string::npos);
  EXPECT_EQ(refusal(image, std::string(1023, 'x')), "");
  EXPECT_NE(refusal(HandMade(2).bytes(), "name").find("version 2"), std::string::npos);
  for (const std::uint64_t bit : {kIncompatDirty, kIncompatCorrupt})
    EXPECT_NE(refusal(HandMade(3, 4, bit).bytes(), "name").find("dirty or corrupt"), std::string::npos);
}

TEST(Qcow2Bitmaps, UnknownAutoclearBitsGoAndInvalidBitmapsAreForgotten) {
  HandMade made;
  add(made.bytes(), "stale");
  made.put64(88, 0x10);  // somebody who knows nothing of bitmaps has written to it
  add(made.bytes(), "new");
  EXPECT_EQ(header_of(made.bytes()).autoclear_features, kAutoclearBitmaps);
  ASSERT_EQ(bitmaps_of(made.bytes()).size(), 1u);
  EXPECT_EQ(bitmaps_of(made.bytes())[0].name, "new");
  EXPECT_EQ(check_bytes(made.bytes()).corruptions(), 0u);
}

TEST(Qcow2Bitmaps, TablesThatLieOnOthersAreNotWrittenTo) {
  for (const std::uint64_t place : {std::uint64_t{1}, std::uint64_t{3}, kCluster, HandMade::kL1, 100 * kCluster}) {
    HandMade made;
    made.put64(kCluster, place);
    EXPECT_NE(refusal(made.bytes(), "b"), "") << place;
  }
  HandMade used;
  for (std::uint64_t i = 0; i < 2047; ++i) used.set_refcount(i, 1);  // behind the end, too
  add(used.bytes(), "b");
  EXPECT_EQ(used.bytes().size(), 2050 * kCluster);  // directory, table, and a block for the last two
}

TEST(Qcow2Bitmaps, ADirectoryIsReadAsItWasBuiltAndDamageIsTold) {
  const std::vector<StoredBitmap> bitmaps{{"one", 4096, 1, kBitmapAuto, 16}, {std::string(1023, 'n'), 8192, 9, kBitmapInUse, 9}};
  const Bytes directory = build_bitmap_directory(bitmaps);
  const auto read = parse_bitmap_directory(directory, 2);
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[1].name, bitmaps[1].name);
  EXPECT_EQ(read[1].table_entries, 9u);
  EXPECT_THROW(parse_bitmap_directory(directory, 1), FormatError);
  EXPECT_THROW(parse_bitmap_directory(directory, 3), FormatError);
  for (std::size_t length = 0; length < directory.size(); ++length)
    EXPECT_THROW(parse_bitmap_directory(std::span(directory).first(length), 2), FormatError);
  for (const std::size_t field : {8u, 12u, 16u, 17u, 18u, 20u}) {  // size, flags, type, granularity, name, extra data
    Bytes broken = directory;
    broken[field] = std::byte{0xff};
    EXPECT_THROW(parse_bitmap_directory(broken, 2), FormatError) << field;
  }
}

TEST(Qcow2Bitmaps, HaveQemusGranularityAndSize) {
  EXPECT_EQ(default_bitmap_granularity_bits(512), 12u);
  EXPECT_EQ(default_bitmap_granularity_bits(8192), 13u);
  EXPECT_EQ(default_bitmap_granularity_bits(2u << 20), 16u);
  EXPECT_EQ(bitmap_table_entries(std::uint64_t{1} << 40, 65536, 16), 32u);
  EXPECT_EQ(bitmap_table_entries((std::uint64_t{1} << 35) + 1, 65536, 16), 2u);
  EXPECT_EQ(bitmap_table_entries(0, 65536, 16), 1u);
  EXPECT_THROW(bitmap_table_entries(std::uint64_t{1} << 60, 65536, 16), FormatError);
}

}  // namespace
}  // namespace nasbackup::qcow2
