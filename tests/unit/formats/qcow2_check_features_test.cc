// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The check, against images laid out by hand that have what not every image has: subclusters, snapshots, bitmaps.
#include "formats/qcow2_check.h"

#include <gtest/gtest.h>

#include <cstring>
#include <tuple>

#include "formats/qcow2_format.h"
#include "tests/unit/formats/hand_made_image.h"
#include "tests/unit/formats/memory_image.h"

namespace nasbackup::qcow2 {
namespace {

// ---- extended L2 ------------------------------------------------------------------------------------------------------------

/// 16 KiB clusters: 0 header, 1 refcount table, 2 refcount block, 3 L1, 4 L2, 5 the guest's first.
class HandMadeExtended {
 public:
  HandMadeExtended() : bytes_(6 * kSize) {
    put32(0, kMagic), put32(4, 3), put32(20, 14), put64(24, 8 * kSize), put32(36, 1), put64(40, 3 * kSize);
    put64(48, kSize), put32(56, 1), put64(72, kIncompatExtendedL2), put32(96, 4), put32(100, 112);
    put64(kSize, 2 * kSize), put64(3 * kSize, 4 * kSize | kEntryCopied);
    for (std::uint64_t i = 0; i < 6; ++i) bytes_[2 * kSize + 2 * i + 1] = std::byte{1};
    put_entry(0, 5 * kSize | kEntryCopied, 0xffffffff);
  }
  void put_entry(std::uint64_t index, std::uint64_t descriptor, std::uint64_t bitmap) {
    put64(4 * kSize + 16 * index, descriptor), put64(4 * kSize + 16 * index + 8, bitmap);
  }
  std::vector<std::byte>& bytes() { return bytes_; }
  Outcome check() const { return check_bytes(bytes_); }
  static constexpr std::uint64_t kSize = 16384;

 private:
  void put32(std::uint64_t offset, std::uint32_t value) { std::memcpy(bytes_.data() + offset, &(scratch32_ = value), 4); }
  void put64(std::uint64_t offset, std::uint64_t value) { std::memcpy(bytes_.data() + offset, &(scratch64_ = value), 8); }
  Be32 scratch32_;
  Be64 scratch64_;
  std::vector<std::byte> bytes_;
};

TEST(Qcow2CheckFeatures, KnowsExtendedL2Entries) {
  HandMadeExtended image;
  EXPECT_EQ(image.check().text(), "");
  image.put_entry(1, 0, 0xffffffff00000000);  // all of it zero
  EXPECT_EQ(image.check().text(), "");
}

TEST(Qcow2CheckFeatures, ReportsEachFaultOfAnExtendedL2Entry) {
  constexpr std::uint64_t kHost = 5 * HandMadeExtended::kSize | kEntryCopied;
  for (const auto& [descriptor, bitmap, says] : std::vector<std::tuple<std::uint64_t, std::uint64_t, const char*>>{
           {kHost, 0x1ffffffff, "both allocated and zero"},
           {0, 1, "a subcluster of an unallocated cluster is allocated"},
           {kHost | kEntryZero, 0xffffffff, "the zero flag is set"},
           {kEntryCompressed | 5 * HandMadeExtended::kSize, 1, "a compressed cluster with a subcluster bitmap"}}) {
    HandMadeExtended image;
    image.put_entry(0, descriptor, bitmap);
    EXPECT_TRUE(image.check().tells_of(says)) << says << "\n" << image.check().text();
  }
}

TEST(Qcow2CheckFeatures, NeedsOnlySubclustersThatAreAllocated) {
  HandMadeExtended image;
  image.put_entry(0, 5 * image.kSize | kEntryCopied, 0xf);
  image.bytes().resize(5 * image.kSize + 4 * 512);
  EXPECT_EQ(image.check().text(), "");
  image.bytes().resize(5 * image.kSize + 4 * 512 - 1);
  EXPECT_EQ(image.check().corruptions(), 1u);
}

// ---- snapshots and bitmaps --------------------------------------------------------------------------------------------------

TEST(Qcow2CheckFeatures, CountsWhatASnapshotShares) { EXPECT_EQ(with_snapshot().check().text(), ""); }

TEST(Qcow2CheckFeatures, ReportsEachFaultOfASnapshot) {
  HandMade unaligned = with_snapshot();
  unaligned.put64(8 * kCluster, 9 * kCluster + 512);
  EXPECT_TRUE(unaligned.check().tells_of("the snapshot's L1 table is not aligned"));
  HandMade large = with_snapshot();
  large.put32(8 * kCluster + 8, 0xffffff);
  EXPECT_TRUE(large.check().tells_of("the snapshot's L1 table has 16777215 entries"));
  HandMade short_extra = with_snapshot();
  short_extra.put32(8 * kCluster + 36, 8);
  EXPECT_TRUE(short_extra.check().tells_of("extra data of 8 bytes"));
  HandMade garbage = with_snapshot();
  garbage.put32(8 * kCluster + 36, 2000);
  EXPECT_EQ(garbage.check().count(FindingKind::check_error), 1u);
  HandMade many = with_snapshot();
  many.put32(60, kMaxSnapshots);
  EXPECT_TRUE(many.check().tells_of("lies beyond the end of the file"));
  EXPECT_LT(many.check().corruptions(), 500u);  // as many entries as there is room for
  HandMade on_itself = with_snapshot();
  on_itself.put64(8 * kCluster, 3 * kCluster);
  EXPECT_TRUE(on_itself.check().tells_of("overlaps other metadata"));
}

TEST(Qcow2CheckFeatures, CountsBitmaps) {
  EXPECT_EQ(with_bitmap().check().text(), "");
  HandMade invalid = with_bitmap();
  invalid.put64(88, 0);
  EXPECT_EQ(invalid.check().leaks(), 3u);
}

TEST(Qcow2CheckFeatures, ReportsEachFaultOfABitmap) {
  for (const auto& [offset, value, says] : std::vector<std::tuple<std::uint64_t, std::uint64_t, const char*>>{
           {8 * kCluster, 9 * kCluster + 8, "it is no valid bitmap"},
           {8 * kCluster, 900 * kCluster, "beyond the end of the file"},
           {8 * kCluster + 16, 0x0110ffff00000000, "the directory ends within it"},
           {9 * kCluster, 10 * kCluster | 2, "reserved bits"},
           {9 * kCluster, 10 * kCluster + 512, "not aligned"},
           {9 * kCluster, 3 * kCluster, "overlaps other metadata"}}) {
    HandMade image = with_bitmap();
    image.put64(offset, value);
    EXPECT_TRUE(image.check().tells_of(says)) << says << "\n" << image.check().text();
  }
}

}  // namespace
}  // namespace nasbackup::qcow2
