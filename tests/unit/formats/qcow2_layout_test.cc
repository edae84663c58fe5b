// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The qcow2 layout against a small reader that goes through header, L1, L2 and refcounts by the specification alone.
#include "formats/qcow2_layout.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "formats/format_error.h"
#include "formats/qcow2_header_reader.h"
#include "tests/unit/formats/memory_image.h"

namespace nasbackup::qcow2 {
namespace {

struct Written {
  MemoryImage image;
  std::vector<std::byte> disk;
  std::uint64_t file_size = 0;
  std::size_t largest_hold = 0;
};

/// A disk of which each cluster is data with the given probability, written in runs of random length.
Written write_random_disk(std::uint64_t size, std::uint64_t cluster, double density, std::uint32_t seed) {
  std::mt19937 random(seed);
  Written out;
  const auto geometry = Geometry::of(size, cluster);
  Layout layout(geometry);
  out.disk.resize(geometry.guest_clusters * cluster);
  for (std::uint64_t at = 0; at < geometry.guest_clusters;) {
    const std::uint64_t run = std::min<std::uint64_t>(1 + random() % 20, geometry.guest_clusters - at);
    const auto data = std::span(out.disk).subspan(at * cluster, run * cluster);
    WriteBatch batch;
    if (std::uniform_real_distribution<>()(random) < density) {
      for (auto& byte : data) byte = static_cast<std::byte>(random() | 1);
      layout.store({GuestOffset(at * cluster), data}, batch);
    } else {
      layout.skip({GuestOffset(at * cluster), run * cluster}, Absent::zero, batch);
    }
    out.image.apply(batch);
    at += run;
  }
  WriteBatch tables, header;
  layout.write_tables(tables);
  out.image.apply(tables);
  layout.write_header(header);
  out.image.apply(header);
  out.file_size = layout.file_size();
  out.disk.resize(geometry.virtual_size);
  return out;
}

/// Every use of a host cluster, counted from the tables; and what the refcount blocks say.
void expect_exact_refcounts(const MemoryImage& image, std::uint64_t cluster) {
  const auto header = image.at<Header>(0);
  std::map<std::uint64_t, unsigned> used;
  const auto use = [&](std::uint64_t offset, std::uint64_t clusters) {
    ASSERT_EQ(offset % cluster, 0u);
    for (std::uint64_t i = 0; i < clusters; ++i) ++used[offset / cluster + i];
  };
  use(0, 1);
  use(header.l1_table_offset, div_round_up(8ull * header.l1_size, cluster));
  use(header.refcount_table_offset, header.refcount_table_clusters);
  for (std::uint64_t i = 0; i < header.l1_size; ++i) {
    const std::uint64_t l1 = image.entry(header.l1_table_offset, i);
    if (l1 == 0) continue;
    EXPECT_TRUE(l1 & kEntryCopied);
    use(l1 & kEntryOffsetMask, 1);
    for (std::uint64_t j = 0; j < cluster / 8; ++j)
      if (const std::uint64_t l2 = image.entry(l1 & kEntryOffsetMask, j); l2 != 0) {
        EXPECT_TRUE(l2 & kEntryCopied);
        use(l2 & kEntryOffsetMask, 1);
      }
  }
  const std::uint64_t table_entries = header.refcount_table_clusters * cluster / 8;
  for (std::uint64_t i = 0; i < table_entries; ++i)
    if (const std::uint64_t block = image.entry(header.refcount_table_offset, i); block != 0) use(block, 1);
  for (std::uint64_t c = 0; c < image.bytes().size() / cluster; ++c) {
    const std::uint64_t block = image.entry(header.refcount_table_offset, c / (cluster / 2));
    const unsigned on_disk = block == 0 ? 0u : unsigned{image.at<Be16>(block + 2 * (c % (cluster / 2)))};
    ASSERT_EQ(on_disk, used[c]) << "host cluster " << c;
  }
}

struct Case {
  std::uint64_t size, cluster;
  double density;
};

class Qcow2Layout : public testing::TestWithParam<Case> {};

TEST_P(Qcow2Layout, ReadsBackAsTheDiskWithExactRefcounts) {
  const auto [size, cluster, density] = GetParam();
  const Written written = write_random_disk(size, cluster, density, 7);
  ASSERT_EQ(written.image.bytes().size(), written.file_size);
  EXPECT_EQ(written.file_size % cluster, 0u);
  EXPECT_EQ(read_guest(written.image, written.disk.size(), cluster), written.disk);
  expect_exact_refcounts(written.image, cluster);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Qcow2Layout,
                         testing::Values(Case{0, 65536, 1}, Case{512, 65536, 1}, Case{65536, 512, 1}, Case{1 << 20, 512, 0.5},
                                         Case{(3 << 20) + 512, 512, 1}, Case{(5 << 20) + 1, 1024, 0.7}, Case{40 << 20, 4096, 0.9},
                                         Case{(70 << 20) - 512, 65536, 0.3}, Case{(9 << 20) + 100, 2 << 20, 1},
                                         Case{16 << 20, 512, 0.02}));

TEST(Qcow2Layout, HoldsOneL2TableAndAFewRefcountBlocksHoweverLargeTheDisk) {
  constexpr std::uint64_t kCluster = 512;
  Refcounts refcounts(kCluster, 100);
  std::size_t most = 0;
  for (int i = 0; i < 20000; ++i) {
    WriteBatch batch;
    refcounts.allocate(3);
    refcounts.write_full_blocks(batch);
    most = std::max(most, refcounts.blocks_held());
  }
  EXPECT_LE(most, 2u);
}

TEST(Qcow2Layout, LeavesNoMagicUntilTheHeaderIsWritten) {
  const auto geometry = Geometry::of(1 << 20, 65536);
  Layout layout(geometry);
  MemoryImage image;
  std::vector<std::byte> data(65536, std::byte{1});
  WriteBatch batch, tables, header;
  layout.store({GuestOffset(0), data}, batch);
  layout.write_tables(tables);
  image.apply(batch);
  image.apply(tables);
  EXPECT_FALSE(has_magic(image.bytes()));
  layout.write_header(header);
  image.apply(header);
  EXPECT_EQ(parse_header(image.bytes()).virtual_size, 1u << 20);
}

TEST(Qcow2Layout, JoinsAnItemsClustersAndTablesIntoOneWrite) {
  Layout layout(Geometry::of(4 << 20, 512));
  std::vector<std::byte> data(64 * 1024, std::byte{1});  // two L2 tables' worth
  WriteBatch batch;
  layout.store({GuestOffset(0), data}, batch);
  EXPECT_EQ(batch.writes().size(), 1u);
}

/// On a backing file of letters: data, zero clusters, and what is left to the backing file, several L2 tables of each.
void write_overlay(const std::filesystem::path& folder, std::uint64_t cluster, std::vector<std::byte>& disk) {
  const auto geometry = Geometry::of(disk.size(), cluster);
  Layout layout(geometry, kZlib, "base of it.qcow2");
  std::mt19937 random(11);
  MemoryImage image;
  for (std::uint64_t at = 0; at < geometry.guest_clusters;) {
    const std::uint64_t run = std::min<std::uint64_t>(1 + random() % 200, geometry.guest_clusters - at);
    const GuestRange range{GuestOffset(at * cluster), run * cluster};
    std::vector<std::byte> data(run * cluster, static_cast<std::byte>(random() | 1));
    WriteBatch batch;
    const auto kind = random() % 3;
    const auto of_disk = disk.begin() + static_cast<std::ptrdiff_t>(at * cluster);
    if (kind == 0) layout.store({range.start, data}, batch);
    if (kind == 0) std::copy(data.begin(), data.end(), of_disk);
    if (kind == 1) layout.skip(range, Absent::zero, batch);
    if (kind == 1) std::fill_n(of_disk, run * cluster, std::byte{0});
    if (kind == 2) layout.skip(range, Absent::parent, batch);
    image.apply(batch);
    at += run;
  }
  WriteBatch rest, header;
  layout.write_tables(rest);
  image.apply(rest);
  layout.write_header(header);
  image.apply(header);
  std::ofstream(folder / "top.qcow2", std::ios::binary)
      .write(reinterpret_cast<const char*>(image.bytes().data()), static_cast<std::streamsize>(image.bytes().size()));
}

TEST(Qcow2Layout, ThatStandsOnAnotherIsForQemuWhatWasPlaced) {
  std::string pattern = (std::filesystem::temp_directory_path() / "layout-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(pattern.data());
  for (const std::uint64_t cluster : {512u, 4096u}) {
    std::vector<std::byte> disk(4096 * cluster, std::byte{'b'});
    const auto write = [&](const char* name) {
      std::ofstream(folder / name, std::ios::binary)
          .write(reinterpret_cast<const char*>(disk.data()), static_cast<std::streamsize>(disk.size()));
    };
    write("base.raw");
    write_overlay(folder, cluster, disk);
    write("expected.raw");
    const std::string command = "cd '" + folder.string() +
                                "' && { qemu-img convert -O qcow2 base.raw 'base of it.qcow2' && qemu-img check top.qcow2 && "
                                "qemu-img compare -f qcow2 -F raw top.qcow2 expected.raw; } > log 2>&1 || { cat log; false; }";
    EXPECT_EQ(std::system(command.c_str()), 0) << cluster;
  }
  std::filesystem::remove_all(folder);
}

TEST(Qcow2Layout, RefusesABackingFileWhoseNameHasNoRoom) {
  EXPECT_NO_THROW(Layout(Geometry::of(1 << 20, 65536), kZlib, std::string(1023, 'n')));
  EXPECT_THROW(Layout(Geometry::of(1 << 20, 65536), kZlib, std::string(1024, 'n')), FormatError);
  EXPECT_NO_THROW(Layout(Geometry::of(1 << 20, 512), kZlib, std::string(300, 'n')));
  EXPECT_THROW(Layout(Geometry::of(1 << 20, 512), kZlib, std::string(400, 'n')), FormatError);
}

#ifndef NDEBUG
TEST(Qcow2LayoutDeathTest, AssertsRisingGuestOrder) {
  Layout layout(Geometry::of(1 << 20, 65536));
  std::vector<std::byte> data(65536, std::byte{1});
  WriteBatch batch;
  layout.store({GuestOffset(65536), data}, batch);
  EXPECT_DEATH(layout.store(EncodedRun{GuestOffset(0), data}, batch), "next_cluster_");
}
#endif

TEST(Qcow2Geometry, RefusesClusterSizesThatTheFormatDoesNotKnow) {
  for (const std::uint64_t cluster : {0ull, 1ull, 256ull, 1000ull, 65537ull, 4ull << 20})
    EXPECT_THROW(Geometry::of(1 << 20, cluster), FormatError) << cluster;
}

TEST(Qcow2Geometry, RefusesDisksThatAreTooLargeForTheirClusters) {
  EXPECT_NO_THROW(Geometry::of(128ull << 30, 512));
  EXPECT_THROW(Geometry::of((128ull << 30) + 512, 512), FormatError);
  EXPECT_THROW(Geometry::of(~0ull, 65536), FormatError);
}

TEST(Qcow2Geometry, RoundsTheVirtualSizeUpToASector) {
  EXPECT_EQ(Geometry::of(1, 65536).virtual_size, 512u);
  EXPECT_EQ(Geometry::of(65537, 65536).virtual_size, 66048u);
}

TEST(Qcow2Geometry, KeepsRoomForARefcountTableOfTheFullDisk) {
  for (const unsigned bits : {9u, 12u, 16u, 21u}) {
    const std::uint64_t cluster = 1ull << bits;
    const auto geometry = Geometry::of(64ull << 30, cluster);
    const std::uint64_t worst =
        1 + geometry.l1_clusters + geometry.refcount_table_clusters + geometry.l1_entries + geometry.guest_clusters;
    const std::uint64_t blocks = div_round_up(worst + worst / (cluster / 2) + 2, cluster / 2);
    EXPECT_GE(geometry.refcount_table_clusters * cluster / 8, blocks) << bits;
  }
}

}  // namespace
}  // namespace nasbackup::qcow2
