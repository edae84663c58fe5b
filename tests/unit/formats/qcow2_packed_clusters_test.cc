// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Compressed clusters in a layout: where their descriptors point, how dense they lie, what the refcounts say.
#include "formats/qcow2_packed_clusters.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "formats/qcow2_layout.h"
#include "tests/unit/formats/memory_image.h"

namespace nasbackup::qcow2 {
namespace {

struct Case {
  std::uint64_t cluster;
  double plain;            ///< share of clusters that are stored plain
  std::uint64_t smallest;  ///< streams are this long, or up to a cluster
};

/// A disk of plain and compressed clusters in any order, the streams as random bytes.
struct MixedImage {
  explicit MixedImage(const Case& kind, std::uint64_t clusters)
      : geometry(Geometry::of(clusters * kind.cluster, kind.cluster)), layout(geometry) {
    std::mt19937 random(3);
    for (std::uint64_t i = 0; i < clusters; ++i) {
      const bool is_plain = std::uniform_real_distribution<>()(random) < kind.plain;
      std::vector<std::byte> bytes(is_plain ? kind.cluster : kind.smallest + random() % (kind.cluster - kind.smallest));
      std::memset(bytes.data(), static_cast<int>(random() | 1), bytes.size());
      WriteBatch batch;
      layout.store({GuestOffset(i * kind.cluster), bytes, !is_plain}, batch);
      for (const FileWrite& write : batch.writes()) {
        only_grew = only_grew && write.offset.value >= end;
        end = write.offset.value + write.length;
      }
      apply(batch);
      (is_plain ? plain : streams)[i] = std::move(bytes);
    }
    WriteBatch tables, header;
    layout.write_tables(tables);
    apply(tables);
    layout.write_header(header);
    apply(header);
  }

  void apply(const WriteBatch& batch) {
    for (const FileWrite& write : batch.writes()) {
      const std::uint64_t from = write.offset.value, to = from + write.length;
      const auto after = written.lower_bound(from);
      EXPECT_TRUE(after == written.end() || after->first >= to) << "written twice at " << from;
      EXPECT_TRUE(after == written.begin() || std::prev(after)->second <= from) << "written twice at " << from;
      written[from] = to;
    }
    image.apply(batch);
  }

  std::uint64_t l2_entry(std::uint64_t cluster) const {
    const std::uint64_t entries = geometry.cluster_size / 8;
    const std::uint64_t l1 = image.entry(geometry.l1_offset.value, cluster / entries) & kEntryOffsetMask;
    return image.entry(l1, cluster % entries);
  }

  Geometry geometry;
  Layout layout;
  MemoryImage image;
  std::map<std::uint64_t, std::vector<std::byte>> plain, streams;
  std::map<std::uint64_t, std::uint64_t> written;  // from -> to
  bool only_grew = true;
  std::uint64_t end = 0;
};

/// By the specification: x = 62 - (cluster_bits - 8); offset below bit x, additional sectors above.
struct Descriptor {
  std::uint64_t offset, bytes;
};
Descriptor descriptor_of(std::uint64_t entry, unsigned cluster_bits) {
  const unsigned x = 62 - (cluster_bits - 8);
  const std::uint64_t offset = entry & ((1ull << x) - 1);
  const std::uint64_t sectors = (entry & ~(3ull << 62)) >> x;
  return {offset, (sectors + 1) * 512 - offset % 512};
}

class Qcow2Compressed : public testing::TestWithParam<Case> {
 protected:
  const std::uint64_t kClusters = std::min<std::uint64_t>(700, (48u << 20) / GetParam().cluster);
};

TEST_P(Qcow2Compressed, DescriptorsPointAtTheStreamsAndTheirLastSector) {
  const MixedImage mixed(GetParam(), kClusters);
  for (const auto& [cluster, stream] : mixed.streams) {
    const std::uint64_t entry = mixed.l2_entry(cluster);
    ASSERT_EQ(entry >> 62, 1u) << "compressed, and never COPIED";
    const auto [offset, bytes] = descriptor_of(entry, mixed.geometry.cluster_bits);
    ASSERT_GE(bytes, stream.size());
    ASSERT_LT(bytes - stream.size(), 512u);
    ASSERT_LE(offset + bytes, mixed.layout.file_size());
    ASSERT_EQ(std::memcmp(mixed.image.bytes().data() + offset, stream.data(), stream.size()), 0) << cluster;
  }
  for (const auto& [cluster, bytes] : mixed.plain)
    ASSERT_EQ(std::memcmp(mixed.image.bytes().data() + (mixed.l2_entry(cluster) & kEntryOffsetMask), bytes.data(), bytes.size()),
              0);
}

TEST_P(Qcow2Compressed, EveryHostClusterIsCountedOnceForEachStreamThatTouchesIt) {
  const MixedImage mixed(GetParam(), kClusters);
  const std::uint64_t size = mixed.geometry.cluster_size;
  std::map<std::uint64_t, unsigned> used;
  const auto use = [&](std::uint64_t from, std::uint64_t length) {
    for (std::uint64_t c = from / size; c <= (from + length - 1) / size; ++c) ++used[c];
  };
  use(0, mixed.geometry.luks_offset.value);
  const std::uint64_t entries = size / 8;
  for (std::uint64_t i = 0; i * entries < kClusters; ++i)
    use(mixed.image.entry(mixed.geometry.l1_offset.value, i) & kEntryOffsetMask, size);
  for (const auto& [cluster, bytes] : mixed.plain) use(mixed.l2_entry(cluster) & kEntryOffsetMask, size);
  for (const auto& [cluster, stream] : mixed.streams)
    use(descriptor_of(mixed.l2_entry(cluster), mixed.geometry.cluster_bits).offset, stream.size());
  std::map<std::uint64_t, unsigned> counted;
  for (std::uint64_t i = 0; i < mixed.geometry.refcount_table_clusters * size / 8; ++i) {
    const std::uint64_t block = mixed.image.entry(mixed.geometry.refcount_table_offset.value, i);
    if (block == 0) continue;
    use(block, size);
    for (std::uint64_t j = 0; j < size / 2; ++j)
      if (const unsigned count = mixed.image.at<Be16>(block + 2 * j); count != 0) counted[i * size / 2 + j] = count;
  }
  EXPECT_EQ(counted, used);
  EXPECT_EQ(mixed.layout.file_size() % size, 0u);
  EXPECT_LE(mixed.image.bytes().size(), mixed.layout.file_size());
}

TEST_P(Qcow2Compressed, StreamsLieDenselyAlthoughPlainClustersComeBetween) {
  const MixedImage mixed(GetParam(), kClusters);
  std::uint64_t needed = mixed.plain.size() * mixed.geometry.cluster_size;
  for (const auto& [cluster, stream] : mixed.streams) needed += stream.size();
  const std::uint64_t l2 = div_round_up(kClusters, mixed.geometry.cluster_size / 8);
  needed += mixed.geometry.luks_offset.value + (l2 + 2) * mixed.geometry.cluster_size;
  const std::uint64_t last_group = mixed.geometry.cluster_size;
  EXPECT_LE(mixed.layout.file_size(), needed + needed / 64 + last_group);
}

TEST_P(Qcow2Compressed, TheFileOnlyGrowsUntilTheTablesAtItsBeginning) {
  const MixedImage mixed(GetParam(), kClusters);
  EXPECT_TRUE(mixed.only_grew);
}

INSTANTIATE_TEST_SUITE_P(Mixes, Qcow2Compressed,
                         testing::Values(Case{512, 0.2, 30}, Case{4096, 0, 100}, Case{4096, 0.3, 2000}, Case{65536, 0.15, 3},
                                         Case{65536, 0.9, 60000}, Case{65536, 0.5, 65000}, Case{262144, 0.05, 1000}));

TEST(Qcow2PackedClusters, PlacesAGroupBeforeAHostClustersRefcountOverflows) {
  PackedClusters packed(2u << 20);
  const std::vector<std::byte> stream(5, std::byte{1});
  std::size_t members = 0;
  while (!packed.is_due()) packed.add(members++, stream);
  EXPECT_EQ(members, 65535u);
  Refcounts refcounts(2u << 20, 1);
  WriteBatch out;
  EXPECT_EQ(packed.place(refcounts, out).size(), members);
  refcounts.write_all_blocks(out);
  MemoryImage image;
  image.apply(out);
  EXPECT_EQ(image.at<Be16>(2u << 20), 65535u);  // the block lies behind the group's cluster
}

TEST(Qcow2Layout, KeepsWholeClustersForALuksHeader) {
  const auto geometry = Geometry::of(1 << 20, 4096, 2068480 + 1);
  EXPECT_EQ(geometry.luks_clusters, 506u);
  Layout layout(geometry);
  MemoryImage image;
  WriteBatch tables, header;
  layout.write_tables(tables);
  layout.write_header(header);
  image.apply(tables);
  image.apply(header);
  EXPECT_EQ(image.at<Header>(0).crypt_method, kCryptLuks);
  EXPECT_EQ(image.at<Be32>(112), kExtensionCryptoHeader);
  EXPECT_EQ(image.at<Be64>(120), geometry.luks_offset.value);
  EXPECT_EQ(image.at<Be64>(128), 2068481u);
  const std::uint64_t block = image.entry(geometry.refcount_table_offset.value, 0);
  for (std::uint64_t c = 0; c < 506; ++c) EXPECT_EQ(image.at<Be16>(block + 2 * (geometry.luks_offset.value / 4096 + c)), 1u);
}

}  // namespace
}  // namespace nasbackup::qcow2
