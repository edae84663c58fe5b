// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One disk through the whole pipeline in memory: same input, same bytes; every failing write, a clean error.
#include "engine/pipeline/disk_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "engine/io/memory_source.h"
#include "formats/qcow2_header_reader.h"
#include "formats/qcow2_layout.h"
#include "tests/unit/formats/memory_image.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kCluster = 4096;

std::vector<std::byte> patchy_disk(std::uint64_t size, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> disk(size);
  for (std::uint64_t at = 0; at < size;) {
    const std::uint64_t run = std::min<std::uint64_t>(1 + random() % 30000, size - at);
    if (random() % 2 != 0)
      for (std::uint64_t i = 0; i < run; ++i) disk[at + i] = static_cast<std::byte>(random());
    at += run;
  }
  return disk;
}

/// Keeps the image in memory; the k-th call fails.
class FaultyTarget final : public BlockTarget {
 public:
  FaultyTarget(MemoryImage& image, int failing_call) : image_(image), calls_left_(failing_call) {}
  asio::awaitable<void> apply(WriteBatch& batch) override {
    fail_in_turn();
    image_.apply(batch);
    co_return;
  }
  asio::awaitable<void> flush() override {
    fail_in_turn();
    co_return;
  }
  asio::awaitable<std::uint64_t> close(std::uint64_t size) override {
    fail_in_turn();
    co_return size;
  }

 private:
  void fail_in_turn() {
    if (calls_left_-- == 0) throw Fault(FaultKind::target_full, "image: write: no room");
  }
  MemoryImage& image_;
  int calls_left_;
};

struct Setting {
  unsigned threads = 2;
  unsigned workers = 4;
  bool holes = true;
  std::uint32_t shuffle = 0;
  int failing_call = -1;
  std::optional<Compression> compression = std::nullopt;
};

DiskCounts copy_into(MemoryImage& image, const std::vector<std::byte>& disk, const Setting& run) {
  JobLoop job(run.threads, {});
  Limiter limiter(job.executor(), job.stop(), {});
  auto source = std::make_unique<MemorySource>(job.executor(), disk, run.holes, run.workers);
  if (run.shuffle != 0) source->shuffle_answers(run.shuffle);
  DiskPipeline pipeline;
  pipeline.source = std::move(source);
  pipeline.begin_layout = [size = disk.size()] { return std::make_unique<qcow2::Layout>(qcow2::Geometry::of(size, kCluster)); };
  pipeline.target = std::make_unique<FaultyTarget>(image, run.failing_call);
  pipeline.encoder = std::make_unique<Encoder>(kCluster, run.compression, run.threads);
  pipeline.cluster = pipeline.unit = kCluster;
  pipeline.item = 8 * kCluster;
  pipeline.workers = run.workers;
  DiskCopy disk_copy(job, std::move(pipeline), limiter, nullptr);
  job.run([&] { return disk_copy.run(); });
  return disk_copy.counts();
}

MemoryImage copy(const std::vector<std::byte>& disk, const Setting& setting) {
  MemoryImage image;
  copy_into(image, disk, setting);
  return image;
}

TEST(DiskCopy, SameInputGivesSameBytesWhateverTheThreadsTheHolesAndTheOrderOfAnswers) {
  const auto disk = patchy_disk((3 << 20) + 777, 11);
  const auto reference = copy(disk, {1, 1, true, 0}).bytes();
  EXPECT_EQ(copy(disk, {2, 4, true, 0}).bytes(), reference);
  EXPECT_EQ(copy(disk, {16, 16, true, 0}).bytes(), reference);
  EXPECT_EQ(copy(disk, {2, 8, false, 0}).bytes(), reference);
  for (const std::uint32_t seed : {1u, 2u, 3u}) EXPECT_EQ(copy(disk, {2, 16, seed % 2 != 0, seed}).bytes(), reference) << seed;
}

std::uint64_t bytes_in_clusters_with_data(std::span<const std::byte> disk) {
  std::uint64_t bytes = 0;
  for (; !disk.empty(); disk = disk.subspan(std::min<std::size_t>(kCluster, disk.size()))) {
    const auto cluster = disk.first(std::min<std::size_t>(kCluster, disk.size()));
    if (std::ranges::any_of(cluster, [](std::byte byte) { return byte != std::byte{0}; })) bytes += cluster.size();
  }
  return bytes;
}

TEST(DiskCopy, CountsEveryByteOnceWhetherAZeroWasKnownOrFound) {
  auto disk = patchy_disk((1 << 20) + 777, 15);
  disk.back() = std::byte{1};  // the last cluster, of which only a part is the disk's
  std::fill(disk.end() - 3 * kCluster, disk.end() - kCluster, std::byte{0});
  const std::uint64_t data = bytes_in_clusters_with_data(disk);
  for (const auto& compression : {std::optional<Compression>(), std::optional(parse_compression("zlib"))})
    for (const bool holes : {true, false}) {
      MemoryImage image;
      const DiskCounts counts = copy_into(image, disk, {2, 4, holes, 0, -1, compression});
      EXPECT_EQ(counts.data_bytes, data);
      EXPECT_EQ(counts.data_bytes + counts.zero_bytes + counts.parent_bytes, disk.size());
      EXPECT_GE(counts.read_bytes, data);
      if (!holes) {
        EXPECT_EQ(counts.read_bytes, disk.size());
      }
    }
}

std::vector<std::byte> wordy_disk(std::uint64_t size) {
  auto disk = patchy_disk(size, 14);
  for (std::uint64_t i = 0; i < size; ++i)
    if (i / 20000 % 3 != 0 && disk[i] != std::byte{0}) disk[i] = static_cast<std::byte>("compress me "[i % 12]);
  return disk;
}

TEST(DiskCopy, SameInputGivesSameBytesWhenItIsCompressed) {
  const auto disk = wordy_disk((3 << 20) + 777);
  for (const char* codec : {"zlib", "zlib:best"}) {
    const auto compression = parse_compression(codec);
    const auto reference = copy(disk, {1, 1, true, 0, -1, compression}).bytes();
    EXPECT_LT(reference.size(), copy(disk, {}).bytes().size());
    EXPECT_EQ(copy(disk, {16, 16, true, 0, -1, compression}).bytes(), reference);
    for (const std::uint32_t seed : {1u, 2u})
      EXPECT_EQ(copy(disk, {2, 16, seed == 1, seed, -1, compression}).bytes(), reference) << seed;
  }
}

TEST(DiskCopy, EveryFailingCallIsTheErrorAndLeavesNoImageOrAWholeOne) {
  const auto disk = patchy_disk(600000, 12);
  const auto whole = copy(disk, {}).bytes();
  int calls = 0;
  for (;; ++calls) {
    MemoryImage image;
    try {
      Setting setting;
      setting.failing_call = calls;
      copy_into(image, disk, setting);
      break;  // every call of the run has failed once
    } catch (const Fault& fault) {
      EXPECT_EQ(fault.kind(), FaultKind::target_full);
      EXPECT_TRUE(!qcow2::has_magic(image.bytes()) || image.bytes() == whole) << calls;
    }
    ASSERT_LT(calls, 1000);
  }
  EXPECT_GT(calls, 10);
}

TEST(DiskCopy, StopsWhenAskedTo) {
  const auto disk = patchy_disk(1 << 20, 13);
  std::stop_source stop;
  JobLoop job(2, stop.get_token());
  Limiter slow(job.executor(), job.stop(), {1000, 1, {}});  // would take a quarter of an hour
  MemoryImage image;
  DiskPipeline pipeline;
  pipeline.source = std::make_unique<MemorySource>(job.executor(), disk, true, 4);
  pipeline.begin_layout = [size = disk.size()] { return std::make_unique<qcow2::Layout>(qcow2::Geometry::of(size, kCluster)); };
  pipeline.target = std::make_unique<FaultyTarget>(image, -1);
  pipeline.encoder = std::make_unique<Encoder>(kCluster, std::nullopt, 2);
  pipeline.cluster = pipeline.unit = kCluster;
  pipeline.item = 8 * kCluster;
  pipeline.workers = 4;
  DiskCopy disk_copy(job, std::move(pipeline), slow, nullptr);
  std::jthread asker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stop.request_stop();
  });
  try {
    job.run([&] { return disk_copy.run(); });
    FAIL() << "went on to the end";
  } catch (const Fault& fault) {
    EXPECT_EQ(fault.kind(), FaultKind::interrupted);
  }
}

}  // namespace
}  // namespace nasbackup
