// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Samples of a source: what is chosen, and that the filter lets through nothing else.
#include "engine/io/sample_source.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "engine/io/memory_source.h"
#include "engine/io/page_cache.h"
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

TEST(PageCache, IsUnknownWhereThereIsNoFile) {
  EXPECT_LT(cached_share("/nonexistent/disk", {range(0, 4096)}, nullptr), 0);
  EXPECT_LT(cached_share("/", {range(0, 4096)}, nullptr), 0);
}

}  // namespace
}  // namespace nasbackup
