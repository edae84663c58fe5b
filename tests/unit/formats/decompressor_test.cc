// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Compressed clusters that others made, and such that nobody should have made.
#include "formats/decompressor.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <memory>
#include <random>
#include <string>

#include "formats/compressor.h"
#include "formats/decoders.h"
#include "formats/format_error.h"
#include "tests/unit/formats/cluster_samples.h"

namespace nasbackup {
namespace {

constexpr std::size_t kSize = 4096;

Bytes stored_by(const Compression& compression, const Bytes& cluster) {
  Bytes stored(cluster.size() + 1024);
  stored.resize(make_compressor(compression, cluster.size())->compress(cluster, stored));
  return stored;
}

/// Deflate by zlib, which is flushed but not ended when `ends` is false.
Bytes deflated(const Bytes& cluster, bool ends) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
  Bytes stored(2 * cluster.size() + 1024);
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(cluster.data()));
  stream.avail_in = static_cast<uInt>(cluster.size());
  stream.next_out = reinterpret_cast<Bytef*>(stored.data());
  stream.avail_out = static_cast<uInt>(stored.size());
  deflate(&stream, ends ? Z_FINISH : Z_SYNC_FLUSH);
  stored.resize(stored.size() - stream.avail_out);
  deflateEnd(&stream);
  return stored;
}

Bytes joined(const Bytes& a, const Bytes& b) {
  Bytes both = a;
  both.insert(both.end(), b.begin(), b.end());
  return both;
}

/// One suite for the decoder that is used and for the reference behind it.
class InflateDecoders : public testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Decompressor> decoder_ = GetParam() ? make_zlib_decoder() : make_decompressor(Codec::zlib);

  Bytes read(const Bytes& stored, std::size_t size = kSize) {
    Bytes cluster(size);
    decoder_->decompress(stored, cluster);
    return cluster;
  }
};
INSTANTIATE_TEST_SUITE_P(, InflateDecoders, testing::Bool(),
                         [](const auto& which) { return std::string(which.param ? "reference" : "used"); });

TEST_P(InflateDecoders, SayWhereTheStreamEnds) {
  const Bytes stream = deflated(text_cluster(kSize), true);
  Bytes cluster(kSize);
  EXPECT_EQ(decoder_->decompress(stream, cluster), stream.size());
  EXPECT_EQ(decoder_->decompress(joined(stream, Bytes(400, std::byte{0x5a})), cluster), stream.size());
  EXPECT_EQ(decoder_->decompress(deflated(text_cluster(kSize), false), cluster), 0u);
}

TEST_P(InflateDecoders, ReadAStreamThatEnds) {
  const Bytes cluster = text_cluster(kSize);
  EXPECT_EQ(read(deflated(cluster, true)), cluster);
}

TEST_P(InflateDecoders, ReadAStreamThatFillsTheClusterWithoutEnding) {
  const Bytes cluster = text_cluster(kSize);
  EXPECT_EQ(read(deflated(cluster, false)), cluster);
}

TEST_P(InflateDecoders, ReadAStreamThatWouldGoOnBehindTheCluster) {
  const Bytes longer = text_cluster(2 * kSize);
  EXPECT_EQ(read(deflated(longer, true)), Bytes(longer.begin(), longer.begin() + kSize));
}

TEST_P(InflateDecoders, IgnoreTheNeighbourBehindTheStream) {
  const Bytes cluster = text_cluster(kSize);
  EXPECT_EQ(read(joined(deflated(cluster, true), random_cluster(511))), cluster);
}

TEST_P(InflateDecoders, RefuseAStreamThatIsTooShort) {
  EXPECT_THROW(read(deflated(text_cluster(kSize - 1), true)), FormatError);
  EXPECT_THROW(read(deflated(text_cluster(kSize - 1), false)), FormatError);
  EXPECT_THROW(read({}), FormatError);
}

TEST_P(InflateDecoders, RefuseEveryStreamThatIsCutOff) {
  const Bytes stored = deflated(random_cluster(kSize), true);  // stored blocks: each byte that is missing is one of the cluster's
  for (std::size_t length = 0; length < stored.size() - 8; length += 13)
    EXPECT_THROW(read(Bytes(stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(length))), FormatError) << length;
}

TEST_P(InflateDecoders, SayWhatIsWrong) {
  try {
    read(Bytes(64, std::byte{0xff}));
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_EQ(std::string(error.what()), "compressed cluster: no deflate stream: invalid block type");
  }
  try {
    read(deflated(text_cluster(100), true));
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_EQ(std::string(error.what()), "compressed cluster: deflate stream too short: 100 bytes of 4096");
  }
}

TEST_P(InflateDecoders, ReadOnAfterABrokenStream) {
  const Bytes cluster = text_cluster(kSize);
  EXPECT_THROW(read(Bytes(64, std::byte{0xff})), FormatError);
  EXPECT_EQ(read(deflated(cluster, true)), cluster);
}

class ZstdDecoder : public testing::Test {
 protected:
  void SetUp() override {
    if (!is_built_in(Codec::zstd)) GTEST_SKIP() << "zstd was not built in";
    decoder_ = make_decompressor(Codec::zstd);
  }
  Bytes frame_of(const Bytes& bytes) { return stored_by({Codec::zstd}, bytes); }
  Bytes read(const Bytes& stored) {
    Bytes cluster(kSize);
    decoder_->decompress(stored, cluster);
    return cluster;
  }
  std::unique_ptr<Decompressor> decoder_;
};

TEST_F(ZstdDecoder, ReadsSeveralFramesAndSkipsThoseToBeSkipped) {
  const Bytes cluster = text_cluster(kSize);
  const Bytes head(cluster.begin(), cluster.begin() + 1000), tail(cluster.begin() + 1000, cluster.end());
  EXPECT_EQ(read(joined(frame_of(head), frame_of(tail))), cluster);
  const Bytes skippable{std::byte{0x50}, std::byte{0x2a}, std::byte{0x4d}, std::byte{0x18}, std::byte{2},
                        std::byte{0},    std::byte{0},    std::byte{0},    std::byte{7},    std::byte{7}};
  EXPECT_EQ(read(joined(skippable, frame_of(cluster))), cluster);
}

TEST_F(ZstdDecoder, IgnoresTheNeighbourBehindTheFrame) {
  const Bytes cluster = text_cluster(kSize);
  EXPECT_EQ(read(joined(frame_of(cluster), random_cluster(511))), cluster);
}

TEST_F(ZstdDecoder, RefusesTooFewBytesAndTooMany) {
  EXPECT_THROW(read({}), FormatError);
  EXPECT_THROW(read(frame_of(text_cluster(kSize - 1))), FormatError);
  EXPECT_THROW(read(frame_of(text_cluster(kSize + 1))), FormatError);
  const Bytes whole = frame_of(text_cluster(kSize));
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_THROW(read(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length))), FormatError) << length;
}

TEST_F(ZstdDecoder, NeedsNoMemoryForTheWindowThatAFrameClaims) {
  // Magic, descriptor without single segment, a window of 2^31 bytes, one empty last block.
  const Bytes claims{std::byte{0x28}, std::byte{0xb5}, std::byte{0x2f}, std::byte{0xfd}, std::byte{0x00},
                     std::byte{0xa8}, std::byte{0x01}, std::byte{0x00}, std::byte{0x00}};
  EXPECT_THROW(read(claims), FormatError);
}

TEST(Decoders, NeverWriteOutsideTheClusterWhateverTheBytesAre) {
  std::mt19937 random(3);
  for (const Codec codec : {Codec::zlib, Codec::zstd}) {
    if (!is_built_in(codec)) continue;
    const auto decoder = make_decompressor(codec);
    for (const Sample& sample : samples_of(kSize)) {
      const Bytes good = stored_by({codec, Level::best}, sample.bytes);
      for (int round = 0; round < 1000; ++round) {
        const std::size_t length = random() % 4 == 0 ? random() % good.size() : good.size();
        const auto stored = std::make_unique<std::byte[]>(length);  // both to the byte: sanitizers see what lies behind
        std::copy_n(good.begin(), length, stored.get());
        for (int change = 0; change < 3 && length > 0; ++change) stored[random() % length] = static_cast<std::byte>(random());
        const auto cluster = std::make_unique<std::byte[]>(kSize);
        try {
          decoder->decompress({stored.get(), length}, {cluster.get(), kSize});
        } catch (const FormatError&) {
        }
      }
    }
  }
}

}  // namespace
}  // namespace nasbackup
