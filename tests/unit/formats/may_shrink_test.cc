// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The guess whether a cluster is worth the compressor's time.
#include "formats/may_shrink.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/compressor.h"
#include "tests/unit/formats/cluster_samples.h"

namespace nasbackup {
namespace {

TEST(MayShrink, SaysNoToRandomBytes) {
  for (const std::size_t size : kClusterSizes)
    for (std::uint32_t seed = 1; seed < 8; ++seed) EXPECT_FALSE(may_shrink(random_cluster(size, seed))) << size << " " << seed;
}

TEST(MayShrink, SaysYesToWhatIsPlainlyOrderly) {
  for (const std::size_t size : kClusterSizes) {
    EXPECT_TRUE(may_shrink(Bytes(size))) << size;
    EXPECT_TRUE(may_shrink(text_cluster(size))) << size;
  }
}

TEST(MayShrink, SaysYesToABlockThatComesAgain) {
  for (const std::size_t period : {512u, 1024u, 4096u, 8192u}) {
    const Bytes block = random_cluster(period);
    Bytes cluster;
    while (cluster.size() < 65536) cluster.insert(cluster.end(), block.begin(), block.end());
    EXPECT_TRUE(may_shrink(cluster)) << period;
  }
}

TEST(MayShrink, SaysYesToAPatternThatCountsThroughAllValues) {
  Bytes cluster(65536);
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster[i] = static_cast<std::byte>(i);
  EXPECT_TRUE(may_shrink(cluster));
}

TEST(MayShrink, FindsTheOnePageThatWouldShrink) {
  for (std::size_t page = 0; page < 16; ++page) {
    for (const bool zero : {true, false}) {
      Bytes cluster = random_cluster(65536);
      const Bytes text = zero ? Bytes(4096) : text_cluster(4096);
      std::copy(text.begin(), text.end(), cluster.begin() + static_cast<std::ptrdiff_t>(page * 4096));
      EXPECT_TRUE(may_shrink(cluster)) << page << " " << zero;
    }
  }
}

TEST(MayShrink, LooksIntoEveryPartOfALargeCluster) {
  for (std::size_t part = 0; part < 32; part += 5) {
    Bytes cluster = random_cluster(2 << 20);
    std::fill_n(cluster.begin() + static_cast<std::ptrdiff_t>(part * 65536), 65536, std::byte{1});
    EXPECT_TRUE(may_shrink(cluster)) << part;
  }
}

TEST(MayShrink, SaysNoToWhatIsCompressedAlready) {
  const Bytes text = text_cluster(1 << 20);
  Bytes stored(text.size());
  stored.resize(make_compressor({Codec::zlib, Level::number, 7}, text.size())->compress(text, stored));
  std::size_t yes = 0, clusters = 0;
  for (std::size_t at = 0; at + 65536 <= stored.size(); at += 65536, ++clusters)
    yes += may_shrink(std::span(stored).subspan(at, 65536));
  EXPECT_GT(clusters, 2u);
  EXPECT_LE(yes, clusters / 2);
}

}  // namespace
}  // namespace nasbackup
