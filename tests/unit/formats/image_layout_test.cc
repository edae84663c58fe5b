// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What every layout promises, whatever its format.
#include "formats/image_layout.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>

#include "formats/qcow2_layout.h"
#include "formats/raw_layout.h"
#include "tests/unit/formats/memory_image.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kCluster = 4096, kClusters = 1500, kSize = kClusters * kCluster;
using Bytes = std::vector<std::byte>;

struct Format {
  const char* name;
  std::function<std::unique_ptr<ImageLayout>()> make;
  bool blank;  // what the file held before reads as zero
  std::function<Bytes(const MemoryImage&)> read;
};

Bytes read_raw(const MemoryImage& image) {
  Bytes disk = image.bytes();
  disk.resize(kSize);  // zeroes at the end are a hole
  return disk;
}

Bytes read_qcow2(const MemoryImage& image) { return read_guest(image, kSize, kCluster); }

const Format kFormats[] = {
    {"qcow2", [] { return std::make_unique<qcow2::Layout>(qcow2::Geometry::of(kSize, kCluster)); }, true, read_qcow2},
    {"raw", [] { return std::make_unique<RawLayout>(kSize, true); }, true, read_raw},
    {"raw_over_old_data", [] { return std::make_unique<RawLayout>(kSize, false); }, false, read_raw},
};

/// Runs of data and of zeroes in turn, from a seed.
Bytes some_disk(std::uint32_t seed) {
  std::mt19937 random(seed);
  Bytes disk(kSize);
  for (std::uint64_t at = 0; at < kSize;) {
    const std::uint64_t end = std::min(kSize, at + (1 + random() % 30) * kCluster);
    const bool data = random() % 2 == 0;
    for (; at < end; ++at) disk[at] = data ? static_cast<std::byte>(random() | 1) : std::byte{0};
  }
  return disk;
}

class EveryLayout : public testing::TestWithParam<Format> {
 protected:
  /// Clusters of the disk from `at` that are alike, `most` at once.
  static std::uint64_t run_at(const Bytes& disk, std::uint64_t at, std::uint64_t most) {
    const bool data = disk[at] != std::byte{0};
    std::uint64_t end = at;
    while (end < kSize && end < at + most * kCluster && (disk[end] != std::byte{0}) == data) end += kCluster;
    return end;
  }

  void take(WriteBatch& batch) {
    for (const FileWrite& write : batch.writes()) {
      end_ = std::max(end_, (write.offset + write.length).value);
      for (const auto& piece : write.pieces)
        (piece.content == Content::guest_data ? guest_bytes_ : metadata_bytes_) += piece.bytes.size();
    }
    for (const FileRange& range : batch.zeroes()) end_ = std::max(end_, range.offset.value + range.length);
    image_.apply(batch);
  }

  void write(Bytes disk, std::uint64_t most) {
    layout_ = GetParam().make();
    image_ = {};
    if (!GetParam().blank) {
      WriteBatch old;
      Bytes garbage(kSize, std::byte{0xaa});
      old.add(HostOffset(0), garbage, Content::guest_data);
      image_.apply(old);
    }
    for (std::uint64_t at = 0; at < kSize;) {
      WriteBatch batch;
      const std::uint64_t end = run_at(disk, at, most);
      if (disk[at] != std::byte{0})
        layout_->store({GuestOffset(at), std::span(disk).subspan(at, end - at)}, batch);
      else
        layout_->skip({GuestOffset(at), end - at}, Absent::zero, batch);
      take(batch);
      at = end;
    }
    WriteBatch tables, header;
    layout_->write_tables(tables);
    take(tables);
    before_header_ = image_;
    layout_->write_header(header);
    take(header);
  }

  std::unique_ptr<ImageLayout> layout_;
  MemoryImage image_, before_header_;
  std::uint64_t end_ = 0, guest_bytes_ = 0, metadata_bytes_ = 0;
};

TEST_P(EveryLayout, GivesBackWhatWasStoredAndZeroesElsewhere) {
  for (std::uint32_t seed = 1; seed <= 5; ++seed) {
    const Bytes disk = some_disk(seed);
    write(disk, 16);
    EXPECT_TRUE(GetParam().read(image_) == disk) << "seed " << seed;
  }
}

TEST_P(EveryLayout, WritesTheSameFileHoweverTheRunsAreCut) {
  const Bytes disk = some_disk(7);
  write(disk, 1);
  const Bytes one_by_one = image_.bytes();
  write(disk, kClusters);
  EXPECT_TRUE(image_.bytes() == one_by_one);
}

TEST_P(EveryLayout, WritesNothingBehindTheFilesEnd) {
  write(some_disk(8), 16);
  EXPECT_LE(end_, layout_->file_size());
  EXPECT_LE(image_.bytes().size(), layout_->file_size());
}

TEST_P(EveryLayout, TellsGuestDataFromMetadata) {
  const Bytes disk = some_disk(9);
  write(disk, 16);
  std::uint64_t data = 0;
  for (std::uint64_t at = 0; at < kSize; at += kCluster) data += disk[at] != std::byte{0} ? kCluster : 0;
  EXPECT_EQ(guest_bytes_, data);
}

TEST_P(EveryLayout, StoresNoDataOfAnEmptyDisk) {
  write(Bytes(kSize), 16);
  EXPECT_EQ(guest_bytes_, 0u);
  EXPECT_TRUE(GetParam().read(image_) == Bytes(kSize));
}

TEST_P(EveryLayout, MakesNoImageBeforeItsHeader) {
  write(some_disk(10), 16);
  const bool has_header = before_header_.bytes() != image_.bytes();
  EXPECT_EQ(has_header, metadata_bytes_ > 0);  // a format without metadata has nothing to withhold
  if (has_header) {
    EXPECT_EQ(before_header_.at<Be32>(0), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, EveryLayout, testing::ValuesIn(kFormats), [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace nasbackup
