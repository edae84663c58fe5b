// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a repair hands out, and above all what it leaves alone: nothing may be lost by it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/unit/formats/hand_made_image.h"

namespace nasbackup::qcow2 {
namespace {

/// The image with what a round of a repair hands out in its place.
HandMade repaired(HandMade image, RepairRound round) {
  const std::vector<std::byte> before = image.bytes();
  const ReadUpTo read = [&](std::uint64_t offset, std::span<std::byte> into) {
    const std::size_t got = std::min<std::size_t>(into.size(), before.size() - offset);
    std::memcpy(into.data(), before.data() + offset, got);
    return got;
  };
  const RepairRequest request{round, [&](std::uint64_t offset, std::span<const std::byte>, std::span<const std::byte> now) {
                                std::copy(now.begin(), now.end(), image.bytes().begin() + static_cast<std::ptrdiff_t>(offset));
                              }};
  check_metadata(read, before.size(), parse_check_header(before), &request);
  return image;
}

std::uint64_t refcount_of(HandMade& image, std::uint64_t cluster) {
  return refcount_at(std::span(image.bytes()).subspan(HandMade::kRefcounts, kCluster), cluster, 4);
}

TEST(Qcow2Repair, LeavesARefcountBlockAloneOnWhichATableLies) {
  HandMade image;
  image.set_refcount(20, 1);  // what there is to repair
  HandMade same = repaired(image, RepairRound::leaks);
  EXPECT_EQ(refcount_of(same, 20), 0u);
  image.put64(HandMade::kL1, HandMade::kRefcounts | kEntryCopied);  // as if the block were an L2 table
  EXPECT_EQ(repaired(image, RepairRound::refcounts).bytes(), image.bytes());
}

TEST(Qcow2Repair, LeavesCopiedFlagsAloneWhereTwoTablesLie) {
  HandMade image;
  image.put64(HandMade::kL1, HandMade::kL1);  // L1 is its own L2 table, and is twice counted
  image.set_refcount(3, 2);
  image.put64(HandMade::kL1 + 8, 5 * kCluster);
  EXPECT_TRUE(image.check().tells_of("COPIED is not set"));
  EXPECT_EQ(repaired(image, RepairRound::copied).bytes(), image.bytes());
  image.put64(HandMade::kL1, HandMade::kL1 | kEntryCopied);
  image.set_refcount(3, 3);
  EXPECT_TRUE(image.check().tells_of("L1 table entry 0 at 0x3000: 0x8000000000003000: COPIED is set"));
  EXPECT_EQ(repaired(image, RepairRound::copied).bytes(), image.bytes());
}

TEST(Qcow2Repair, FreesNoClusterBehindTheFileThatAnEntryStillNames) {
  HandMade image;
  image.set_refcount(20, 1);
  image.put64(HandMade::l2(0), 20 * kCluster | kEntryCopied);
  image.set_refcount(5, 0);
  ASSERT_TRUE(image.check().tells_of("lies beyond the end of the file"));
  HandMade same = repaired(image, RepairRound::leaks);
  EXPECT_EQ(refcount_of(same, 20), 1u);
}

TEST(Qcow2Repair, LeavesARefcountBlockAloneOnWhichATableThatIsTooLongLies) {
  HandMade image;
  image.set_refcount(20, 1);
  image.put32(56, 16);  // clusters of the refcount table, which begins in front of the block
  const Outcome outcome = image.check();
  EXPECT_TRUE(outcome.tells_of("points beyond the end of the file"));
  EXPECT_FALSE(outcome.tells_of("cluster 1 has")) << outcome.text();
  EXPECT_EQ(repaired(image, RepairRound::leaks).bytes(), image.bytes());
}

TEST(Qcow2Repair, CountsASnapshotTableAsFarAsItCanBeRead) {
  HandMade image = with_snapshot();
  image.put32(8 * kCluster + 36, 2000);
  const Outcome outcome = image.check();
  EXPECT_EQ(outcome.count(FindingKind::check_error), 1u);
  EXPECT_FALSE(outcome.tells_of("cluster 8 has")) << outcome.text();
}

}  // namespace
}  // namespace nasbackup::qcow2
