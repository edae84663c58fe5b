// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Samples of a source: what is chosen, and that the filter lets through nothing else.
#include "engine/io/sample_source.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "engine/io/memory_source.h"
#include "engine/io/page_cache.h"
#include "tests/unit/crypto/counting_random.h"
#include "tests/unit/io/nodes.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

GuestRange range(std::uint64_t from, std::uint64_t to) { return {GuestOffset(from), to - from}; }

void expect_rising_and_inside(const std::vector<GuestRange>& sample, const std::vector<GuestRange>& data) {
  GuestOffset end;
  for (const GuestRange& part : sample) {
    EXPECT_GE(part.start, end);
    EXPECT_GT(part.length, 0u);
    end = part.end();
    const bool inside = std::any_of(data.begin(), data.end(),
                                    [&](const GuestRange& d) { return d.start <= part.start && part.end() <= d.end(); });
    EXPECT_TRUE(inside) << part.start.value << " … " << part.end().value;
  }
}

TEST(ChooseSample, TakesEverythingWhenThereIsNoMore) {
  const std::vector<GuestRange> data{range(3, 2 * kMiB), range(4 * kMiB, 5 * kMiB)};
  const auto sample = choose_sample(data, 100 * kMiB);
  EXPECT_EQ(bytes_of(sample), bytes_of(data));
}

TEST(ChooseSample, IsAsLargeAsAskedAndSpreadOverAllData) {
  const std::vector<GuestRange> data{range(0, 1024 * kMiB), range(8192 * kMiB, 9216 * kMiB)};
  for (const std::uint64_t wanted : {kMiB, 16 * kMiB, 100 * kMiB, 512 * kMiB}) {
    const auto sample = choose_sample(data, wanted);
    expect_rising_and_inside(sample, data);
    EXPECT_LE(bytes_of(sample), wanted);
    EXPECT_GE(bytes_of(sample), wanted / 2);
    if (wanted < 16 * kMiB) continue;
    EXPECT_LT(sample.front().start.value, 128 * kMiB);
    EXPECT_GT(sample.back().start.value, 9000 * kMiB);
  }
}

TEST(ChooseSample, StaysInsideOfFineFragments) {
  std::vector<GuestRange> data;
  for (std::uint64_t at = 0; at < 64 * kMiB; at += 16384) data.push_back(range(at + 512, at + 4096));
  const auto sample = choose_sample(data, 2 * kMiB);
  expect_rising_and_inside(sample, data);
  EXPECT_GE(bytes_of(sample), kMiB);
}

constexpr std::uint64_t kGrid = 64u << 10;

TEST(ARandomSample, IsOnePieceOfEachStretchOfTheData) {
  const std::vector<GuestRange> data{range(0, 64 * kMiB), range(kGrid * 4096, kGrid * 4096 + 192 * kMiB)};
  for (const double share : {0.002, 0.01, 0.05, 0.5, 0.9}) {
    CountingRandom random;
    const auto sample = choose_at_random(data, share, kGrid, random);
    expect_rising_and_inside(sample, data);
    const double read = static_cast<double>(bytes_of(sample)) / static_cast<double>(bytes_of(data));
    EXPECT_NEAR(read, share, 0.02 * share + static_cast<double>(kGrid) / static_cast<double>(bytes_of(data)));
    for (const GuestRange& part : sample) EXPECT_EQ(part.start.value % kGrid + part.length % kGrid, 0u);
    if (share < 0.01) continue;
    // 256 MiB in at least forty stretches: none of these windows can be missed.
    for (std::uint64_t from = 0; from < 64 * kMiB; from += 16 * kMiB)
      EXPECT_TRUE(
          std::any_of(sample.begin(), sample.end(),
                      [&](const GuestRange& part) { return part.start.value < from + 16 * kMiB && part.end().value > from; }))
          << share << " " << from;
  }
}

TEST(ARandomSample, IsAnotherForOtherRandomBytes) {
  const std::vector<GuestRange> data{range(0, 256 * kMiB)};
  CountingRandom one(1), two(2), again(1);
  const auto sample = choose_at_random(data, 0.05, kGrid, one);
  EXPECT_NE(sample, choose_at_random(data, 0.05, kGrid, two));
  EXPECT_EQ(sample, choose_at_random(data, 0.05, kGrid, again));
}

TEST(ARandomSample, OfEverythingIsEverythingAndOfLittleIsAPiece) {
  CountingRandom random;
  const std::vector<GuestRange> data{range(0, kMiB), range(2 * kMiB, 2 * kMiB + 512)};  // where the disk ends
  EXPECT_EQ(choose_at_random(data, 1, kGrid, random), data);
  const auto little = choose_at_random(data, 1e-9, kGrid, random);
  ASSERT_EQ(little.size(), 1u);
  EXPECT_LE(little.front().length, kGrid);
  EXPECT_TRUE(choose_at_random({}, 0.5, kGrid, random).empty());
}

TEST(ARandomSample, ReachesEveryPiece) {
  const std::vector<GuestRange> data{range(0, 3 * kGrid), range(5 * kGrid, 7 * kGrid)};
  CountingRandom random;
  std::set<std::uint64_t> reached;
  for (int i = 0; i < 200; ++i)
    for (const GuestRange& part : choose_at_random(data, 0.2, kGrid, random)) reached.insert(part.start.value / kGrid);
  EXPECT_EQ(reached, (std::set<std::uint64_t>{0, 1, 2, 5, 6}));
}

TEST(Ranges, OnAGridAreWidenedAndJoined) {
  const auto wide =
      on_grid({range(10, 20), range(kGrid - 1, kGrid + 1), range(5 * kGrid, 5 * kGrid + 7)}, kGrid, 5 * kGrid + 512);
  EXPECT_EQ(wide, (std::vector<GuestRange>{range(0, 2 * kGrid), range(5 * kGrid, 5 * kGrid + 512)}));
}

TEST(Ranges, WithoutOthersAreWhatIsLeft) {
  const std::vector<GuestRange> all{range(0, 10), range(20, 30), range(40, 50)};
  EXPECT_EQ(without(all, {range(0, 2), range(5, 6), range(20, 30), range(48, 50)}),
            (std::vector<GuestRange>{range(2, 5), range(6, 10), range(40, 48)}));
  EXPECT_EQ(without(all, {}), all);
  EXPECT_TRUE(without(all, all).empty());
}

class SampleSourceTest : public testing::Test {
 protected:
  /// Walks all of it; returns what is called data.
  std::vector<GuestRange> data_of(const Sample& sample) {
    std::vector<GuestRange> found;
    auto inner = std::make_unique<MemorySource>(loop_.context.get_executor(), disk_, false, 1);
    SampleSource source(std::move(inner), std::make_shared<Sample>(sample));
    loop_.run([&]() -> asio::awaitable<void> { return walk(source, found); });
    return found;
  }

  asio::awaitable<void> walk(SampleSource& source, std::vector<GuestRange>& found) {
    for (GuestOffset at; at.value < disk_.size();) {
      const std::vector<Extent> extents = co_await source.extents(at, 65536);
      for (const Extent& extent : extents) {
        EXPECT_EQ(extent.range.start, at);
        at = extent.range.end();
        if (extent.kind == ExtentKind::data) found.push_back(extent.range);
      }
    }
  }

  std::vector<std::byte> disk_ = std::vector<std::byte>(16 * kMiB, std::byte{7});
  Loop loop_;
};

TEST_F(SampleSourceTest, CallsDataWhatIsInTheSampleAndAllElseZero) {
  const Sample sample{{range(kMiB, 4 * kMiB), range(10 * kMiB, 11 * kMiB)}, std::chrono::hours(1)};
  const auto found = data_of(sample);
  EXPECT_EQ(bytes_of(found), 4 * kMiB);
  expect_rising_and_inside(found, sample.ranges);
}

TEST_F(SampleSourceTest, CallsTheRestZeroOnceTheTimeIsUp) {
  const auto found = data_of({{range(0, 16 * kMiB)}, std::chrono::nanoseconds(0)});
  EXPECT_LE(bytes_of(found), kMiB);
}

TEST(PageCache, HoldsAFileThatWasJustReadAndLetsItGo) {
  const Folder folder;
  const std::string path = folder.file("disk");
  write_sparse(path, std::vector<std::byte>(4 * kMiB, std::byte{7}));
  const std::vector<GuestRange> all{range(0, 4 * kMiB)};
  EXPECT_DOUBLE_EQ(cached_share(path, all, nullptr), 1);
  const int fd = ::open(path.c_str(), O_RDONLY);
  ::fsync(fd);  // dirty pages cannot go
  ::close(fd);
  drop_cached(path, all, nullptr);
  const double share = cached_share(path, all, nullptr);
  if (share == 1) GTEST_SKIP() << "this file system keeps everything in memory";
  EXPECT_LT(share, 0.1);
  EXPECT_EQ(read_file(path), std::vector<std::byte>(4 * kMiB, std::byte{7}));
}

TEST(PageCache, TellsWhetherAllOfAFileWentAway) {
  const Folder folder;
  const std::string path = folder.file("disk");
  write_sparse(path, std::vector<std::byte>(4 * kMiB, std::byte{7}));
  const bool went = let_file_go(path, nullptr);
  if (!went && cached_share(path, {range(0, 4 * kMiB)}, nullptr) == 1)
    GTEST_SKIP() << "this file system keeps everything in memory";
  EXPECT_TRUE(went);
  EXPECT_EQ(cached_share(path, {range(0, 4 * kMiB)}, nullptr), 0);
  std::ofstream(folder.file("empty")).close();
  EXPECT_TRUE(let_file_go(folder.file("empty"), nullptr));
  EXPECT_FALSE(let_file_go("/nonexistent/disk", nullptr));
}

TEST(PageCache, IsUnknownWhereThereIsNoFile) {
  EXPECT_LT(cached_share("/nonexistent/disk", {range(0, 4096)}, nullptr), 0);
  EXPECT_LT(cached_share("/", {range(0, 4096)}, nullptr), 0);
}

}  // namespace
}  // namespace nasbackup
