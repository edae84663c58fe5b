// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What becomes of guest clusters: zero, plain or compressed.
#include "engine/pipeline/encoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "formats/decompressor.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kCluster = 4096;

/// Clusters named by a letter each: z zero, t text, r random.
std::vector<std::byte> clusters(const std::string& kinds) {
  std::mt19937 random(5);
  std::vector<std::byte> bytes(kinds.size() * kCluster);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const char kind = kinds[i / kCluster];
    if (kind == 't') bytes[i] = static_cast<std::byte>("all work and no play "[i % 21]);
    if (kind == 'r') bytes[i] = static_cast<std::byte>(random());
  }
  return bytes;
}

/// The runs as text: P for plain and C for compressed, with the clusters that they cover.
std::string shape(const std::vector<EncodedRun>& runs) {
  std::string text;
  for (const EncodedRun& run : runs)
    text += (run.compressed ? " C" : " P") + std::to_string(run.at.value / kCluster) + "+" +
            std::to_string(run.compressed ? 1 : run.bytes.size() / kCluster);
  return text;
}

TEST(Encoder, LeavesZeroClustersOutAndJoinsNeighbours) {
  Encoder encoder(kCluster, std::nullopt, 1);
  auto bytes = clusters("zttrzzrz");
  EXPECT_EQ(shape(encoder.encode(GuestOffset(0), bytes, {})), " P1+3 P6+1");
}

TEST(Encoder, CompressesWhatShrinksAndKeepsTheRestPlain) {
  Encoder encoder(kCluster, parse_compression("zlib"), 1);
  auto bytes = clusters("ztrrtz");
  std::vector<std::byte> streams(bytes.size());
  const auto runs = encoder.encode(GuestOffset(10 * kCluster), bytes, streams);
  EXPECT_EQ(shape(runs), " C11+1 P12+2 C14+1");
  const auto decompressor = make_decompressor(Codec::zlib);
  std::vector<std::byte> cluster(kCluster);
  decompressor->decompress(runs[0].bytes, cluster);
  EXPECT_TRUE(std::equal(cluster.begin(), cluster.end(), bytes.begin() + kCluster));
  const EncoderCounts counts = encoder.counts();
  EXPECT_EQ(counts.compressed_clusters, 2u);
  EXPECT_EQ(counts.plain_clusters, 2u);
  EXPECT_EQ(counts.compressed_bytes, runs[0].bytes.size() + runs[2].bytes.size());
}

TEST(Encoder, CopiesTheStreamsThatWereKeptAndEncodesTheRest) {
  Encoder encoder(kCluster, parse_compression("zlib"), 1);
  auto bytes = clusters("ttzt");
  std::vector<std::byte> streams(bytes.size()), stream(100, std::byte{5});
  KeptStreams kept = encoder.keeper(streams);
  kept.keep(GuestOffset(kCluster), stream);
  kept.keep(GuestOffset(2 * kCluster), stream);  // of a cluster that is zero
  const auto runs = encoder.encode(GuestOffset(0), bytes, kept);
  EXPECT_EQ(shape(runs), " C0+1 C1+1 C3+1");
  EXPECT_TRUE(std::equal(stream.begin(), stream.end(), runs[1].bytes.begin(), runs[1].bytes.end()));
  std::vector<std::byte> cluster(kCluster);
  for (const std::size_t i : {0u, 2u}) {
    make_decompressor(Codec::zlib)->decompress(runs[i].bytes, cluster);
    EXPECT_TRUE(std::equal(cluster.begin(), cluster.end(), bytes.begin() + static_cast<std::ptrdiff_t>(runs[i].at.value)));
  }
  EXPECT_EQ(encoder.counts().copied_clusters, 1u);
  EXPECT_EQ(encoder.counts().compressed_clusters, 3u);
}

TEST(Encoder, KeepsNoStreamThatIsNotWorthIt) {
  Encoder encoder(kCluster, parse_compression("zlib"), 1);
  std::vector<std::byte> streams(kCluster), stream(kCluster - 1, std::byte{5});
  KeptStreams kept = encoder.keeper(streams);
  kept.keep(GuestOffset(0), stream);
  kept.keep(GuestOffset(0), {});
  EXPECT_TRUE(kept.at(GuestOffset(0)).empty());
  EXPECT_EQ(kept.room().size(), kCluster);
}

TEST(Encoder, SaysWhatAutoChose) {
  Encoder encoder(kCluster, parse_compression("auto"), 1);
  auto bytes = clusters("tt");
  std::vector<std::byte> streams(bytes.size());
  encoder.encode(GuestOffset(0), bytes, streams);
  EXPECT_EQ(encoder.chosen(), to_string(ladder_of(Codec::zlib).front().compression) + " 100 %");
  EXPECT_EQ(Encoder(kCluster, parse_compression("zlib"), 1).chosen(), "");
}

}  // namespace
}  // namespace nasbackup
