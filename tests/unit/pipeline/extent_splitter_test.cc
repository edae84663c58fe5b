// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// From extents to work items.
#include "engine/pipeline/extent_splitter.h"

#include <gtest/gtest.h>

#include <random>

namespace nasbackup {
namespace {

constexpr std::uint64_t kCluster = 100, kItem = 400;

std::vector<WorkItem> split(std::uint64_t size, const std::vector<Extent>& extents) {
  ExtentSplitter splitter(size, kCluster, kItem);
  std::vector<WorkItem> items;
  for (const Extent& extent : extents) splitter.add(extent, items);
  splitter.finish(items);
  return items;
}

Extent data(std::uint64_t from, std::uint64_t length) { return {{GuestOffset(from), length}, ExtentKind::data}; }
Extent zero(std::uint64_t from, std::uint64_t length) { return {{GuestOffset(from), length}, ExtentKind::zero}; }
Extent parent(std::uint64_t from, std::uint64_t length) { return {{GuestOffset(from), length}, ExtentKind::parent}; }

TEST(ExtentSplitter, SplitsAtItemBoundariesAndKeepsTheTail) {
  const auto items = split(950, {data(0, 950)});
  ASSERT_EQ(items.size(), 3u);
  EXPECT_EQ(items[0].range, (GuestRange{GuestOffset(0), 400}));
  EXPECT_EQ(items[1].range, (GuestRange{GuestOffset(400), 400}));
  EXPECT_EQ(items[2].range, (GuestRange{GuestOffset(800), 150}));
}

TEST(ExtentSplitter, TakesAClusterWithAnyDataForData) {
  const auto items = split(1000, {zero(0, 250), data(250, 1), zero(251, 749)});
  ASSERT_EQ(items.size(), 3u);
  EXPECT_EQ(items[0].range, (GuestRange{GuestOffset(0), 200}));
  EXPECT_EQ(items[1].range, (GuestRange{GuestOffset(200), 100}));
  EXPECT_EQ(items[1].kind, ExtentKind::data);
  EXPECT_EQ(items[2].range, (GuestRange{GuestOffset(300), 700}));
}

TEST(ExtentSplitter, MakesOneItemOfZeroesHoweverManyExtentsTellOfThem) {
  const auto items = split(100000, {zero(0, 30000), zero(30000, 50000), zero(80000, 20000)});
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, ExtentKind::zero);
  EXPECT_EQ(items[0].range.length, 100000u);
}

TEST(ExtentSplitter, CutsZeroesThatAreBounded) {
  ExtentSplitter splitter(100050, kCluster, kItem, 30000);
  std::vector<WorkItem> items;
  for (const Extent& extent : {zero(0, 50000), data(50000, 100), zero(50100, 49950)}) splitter.add(extent, items);
  splitter.finish(items);
  ASSERT_EQ(items.size(), 5u);
  EXPECT_EQ(items[1].range, (GuestRange{GuestOffset(30000), 20000}));
  EXPECT_EQ(items[2].kind, ExtentKind::data);
  EXPECT_EQ(items[4].range, (GuestRange{GuestOffset(80100), 19950}));
}

TEST(ExtentSplitter, ReadsAClusterThatIsPartlyZeroAndPartlyAsInTheParent) {
  const auto items = split(1000, {parent(0, 250), zero(250, 400), parent(650, 350)});
  ASSERT_EQ(items.size(), 5u);
  const ExtentKind kinds[] = {ExtentKind::parent, ExtentKind::data, ExtentKind::zero, ExtentKind::data, ExtentKind::parent};
  const std::uint64_t ends[] = {200, 300, 600, 700, 1000};
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(items[i].kind, kinds[i]) << i;
    EXPECT_EQ(items[i].range.end().value, ends[i]) << i;
  }
}

TEST(ExtentSplitter, MakesNothingOfAnEmptyDisk) { EXPECT_TRUE(split(0, {}).empty()); }

TEST(ExtentSplitter, CoversEveryByteOnceInOrderWhateverTheExtents) {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const std::uint64_t size = 1 + random() % 5000;
    std::vector<Extent> extents;
    std::vector<ExtentKind> kinds(size);
    for (std::uint64_t at = 0; at < size;) {
      const std::uint64_t length = std::min<std::uint64_t>(1 + random() % 700, size - at);
      extents.push_back({{GuestOffset(at), length}, static_cast<ExtentKind>(random() % 3)});
      for (std::uint64_t i = at; i < at + length; ++i) kinds[i] = extents.back().kind;
      at += length;
    }
    std::uint64_t at = 0, sequence = 0;
    for (const WorkItem& item : split(size, extents)) {
      ASSERT_EQ(item.range.start.value, at);
      ASSERT_EQ(item.sequence, sequence++);
      ASSERT_GT(item.range.length, 0u);
      ASSERT_EQ(at % kCluster, 0u);
      const bool absent = item.kind != ExtentKind::data;
      ASSERT_TRUE(absent || item.range.length <= kItem);
      for (std::uint64_t i = at; i < at + item.range.length; ++i) ASSERT_FALSE(absent && kinds[i] != item.kind) << i;
      at += item.range.length;
    }
    ASSERT_EQ(at, size);
  }
}

}  // namespace
}  // namespace nasbackup
