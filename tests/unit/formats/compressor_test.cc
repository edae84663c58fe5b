// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Every level of every codec: what is written comes back, keeps to its history, ends, and is the same each time.
#include "formats/compressor.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <string>

#include "formats/decompressor.h"
#include "formats/format_error.h"
#include "tests/unit/formats/cluster_samples.h"

namespace nasbackup {
namespace {

class Compressors : public testing::TestWithParam<Compression> {};
class DeflateCompressors : public Compressors {};
class ZstdCompressors : public Compressors {};

std::vector<Compression> levels_of(Codec codec) {
  auto levels = all_levels();
  std::erase_if(levels, [codec](const Compression& each) { return each.codec != codec; });
  return levels;
}

std::string name_of_param(const testing::TestParamInfo<Compression>& info) {
  auto name = to_string(info.param);
  std::replace(name.begin(), name.end(), ':', '_');
  std::replace(name.begin(), name.end(), '-', 'm');
  return name;
}

INSTANTIATE_TEST_SUITE_P(EveryLevel, Compressors, testing::ValuesIn(all_levels()), name_of_param);
INSTANTIATE_TEST_SUITE_P(EveryLevel, DeflateCompressors, testing::ValuesIn(levels_of(Codec::zlib)), name_of_param);
INSTANTIATE_TEST_SUITE_P(EveryLevel, ZstdCompressors, testing::ValuesIn(levels_of(Codec::zstd)), name_of_param);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ZstdCompressors);

/// What would be stored, empty when plain.
Bytes compressed(Compressor& compressor, const Bytes& cluster) {
  Bytes stored(most_worth_keeping(cluster.size()));
  stored.resize(compressor.compress(cluster, stored));
  return stored;
}

/// The largest clusters for the named levels alone, because the strongest need seconds for them.
std::vector<std::size_t> sizes_for(const Compression& compression) {
  return {kClusterSizes.begin(), compression.level == Level::number ? kClusterSizes.end() - 1 : kClusterSizes.end()};
}

TEST_P(Compressors, GiveBackWhatTheyWereGiven) {
  const auto decompressor = make_decompressor(GetParam().codec);
  for (const std::size_t size : sizes_for(GetParam())) {
    const auto compressor = make_compressor(GetParam(), size);
    for (const Sample& sample : samples_of(size)) {
      const Bytes stored = compressed(*compressor, sample.bytes);
      if (stored.empty()) continue;
      Bytes back(size, std::byte{0xee});
      decompressor->decompress(stored, back);
      EXPECT_EQ(back, sample.bytes) << sample.kind << " " << size;
    }
  }
}

TEST_P(Compressors, ShrinkWhatCanShrinkAndNothingElse) {
  for (const std::size_t size : {std::size_t{4096}, std::size_t{65536}}) {
    const auto compressor = make_compressor(GetParam(), size);
    EXPECT_LT(compressed(*compressor, Bytes(size)).size(), size / 10);
    const auto text = compressed(*compressor, text_cluster(size)).size();
    EXPECT_GT(text, 0u);
    EXPECT_LT(text, size * 9 / 10);
    EXPECT_EQ(compressed(*compressor, random_cluster(size)).size(), 0u);
  }
}

TEST_P(Compressors, SayWhenItDoesNotFitAndWriteNothingBehindTheirRoom) {
  constexpr std::size_t kSize = 4096;
  const auto compressor = make_compressor(GetParam(), kSize);
  const Bytes cluster = text_cluster(kSize);
  const std::size_t whole = compressed(*compressor, cluster).size();
  for (std::size_t room = 0; room < whole; room += room < 40 ? 1 : 97) {
    auto into = std::make_unique<std::byte[]>(room);  // to the byte: sanitizers see what is written behind it
    EXPECT_EQ(compressor->compress(cluster, {into.get(), room}), 0u) << room << " of " << whole;
  }
}

TEST_P(Compressors, WriteTheSameBytesWhateverCameBefore) {
  constexpr std::size_t kSize = 32768;
  const auto used = make_compressor(GetParam(), kSize);
  for (const Sample& before : samples_of(kSize)) compressed(*used, before.bytes);
  for (const Sample& sample : samples_of(kSize)) {
    const auto fresh = make_compressor(GetParam(), kSize);
    EXPECT_EQ(compressed(*used, sample.bytes), compressed(*fresh, sample.bytes)) << sample.kind;
  }
}

TEST_P(Compressors, TakeSmallerClustersThanTheyWereMadeFor) {
  const auto compressor = make_compressor(GetParam(), 65536);
  const Bytes cluster = text_cluster(512);
  const Bytes stored = compressed(*compressor, cluster);
  Bytes back(512);
  make_decompressor(GetParam().codec)->decompress(stored, back);
  EXPECT_EQ(back, cluster);
}

struct Inflated {
  int outcome;
  std::size_t taken;
  Bytes bytes;
};

/// As a strict reader with a window of 2^bits bytes would do it: `step` bytes of output at a time, so that nothing but its own
/// window holds what came before.
Inflated inflate_with(int bits, const Bytes& stored, std::size_t size, std::size_t step) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, -bits), Z_OK);
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(stored.data()));
  stream.avail_in = static_cast<uInt>(stored.size());
  Inflated result{Z_OK, 0, {}};
  Bytes piece(step);
  while (result.outcome == Z_OK && result.bytes.size() <= size) {
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(step);
    result.outcome = inflate(&stream, step == size ? Z_FINISH : Z_NO_FLUSH);
    result.bytes.insert(result.bytes.end(), piece.begin(), piece.end() - stream.avail_out);
  }
  result.taken = stored.size() - stream.avail_in;
  inflateEnd(&stream);
  return result;
}

TEST_P(DeflateCompressors, WriteAStreamThatEndsAndThatQemuReads) {
  for (const std::size_t size : sizes_for(GetParam())) {
    const auto compressor = make_compressor(GetParam(), size);
    for (const Sample& sample : samples_of(size)) {
      const Bytes stored = compressed(*compressor, sample.bytes);
      if (stored.empty()) continue;
      const auto read = inflate_with(12, stored, size, size);  // one call, as qemu does
      EXPECT_EQ(read.outcome, Z_STREAM_END) << sample.kind << " " << size;
      EXPECT_EQ(read.taken, stored.size()) << sample.kind << " " << size;
      EXPECT_EQ(read.bytes, sample.bytes) << sample.kind << " " << size;
    }
  }
}

TEST_P(DeflateCompressors, KeepToTheHistoryThatTheySay) {
  const std::uint32_t history = history_of(GetParam());
  const int bits = history == 4096 ? 12 : 15;
  for (const std::size_t size : sizes_for(GetParam())) {
    const auto compressor = make_compressor(GetParam(), size);
    for (const Sample& sample : samples_of(size)) {
      const Bytes stored = compressed(*compressor, sample.bytes);
      if (stored.empty()) continue;
      const auto read = inflate_with(bits, stored, size, 1024 - 1);
      EXPECT_EQ(read.outcome, Z_STREAM_END) << sample.kind << " " << size;
      EXPECT_EQ(read.bytes, sample.bytes) << sample.kind << " " << size;
    }
  }
}

TEST(DeflateCompressor, OfALongHistoryUsesIt) {
  const Bytes cluster = [] {
    Bytes twice = random_cluster(16384);
    twice.insert(twice.end(), twice.begin(), twice.end());
    return twice;
  }();
  EXPECT_EQ(compressed(*make_compressor({Codec::zlib, Level::standard}, cluster.size()), cluster).size(), 0u);
  EXPECT_GT(compressed(*make_compressor({Codec::zlib, Level::best}, cluster.size()), cluster).size(), 0u);
}

TEST(Compressor, OfAStrongerLevelWritesLess) {
  const Bytes cluster = distant_cluster(65536);
  for (const Codec codec : {Codec::zlib, Codec::zstd}) {
    if (!is_built_in(codec)) continue;
    const auto size_at = [&](Level level) {
      return compressed(*make_compressor({codec, level}, cluster.size()), cluster).size();
    };
    EXPECT_GT(size_at(Level::standard), size_at(Level::best)) << name_of(codec);
    EXPECT_GT(size_at(Level::best), 0u) << name_of(codec);
  }
}

TEST_P(ZstdCompressors, WriteOneFrameWithAChecksumThatLetsNoFlippedBitPass) {
  constexpr std::size_t kSize = 4096;
  constexpr std::byte kChecksumFlag{4};  // RFC 8878, 3.1.1.1.1: bit 2 of the byte behind the magic number
  const Bytes cluster = text_cluster(kSize);
  Bytes stored = compressed(*make_compressor(GetParam(), kSize), cluster);
  ASSERT_GT(stored.size(), 5u);
  EXPECT_EQ(stored[4] & kChecksumFlag, kChecksumFlag);
  const auto decompressor = make_decompressor(Codec::zstd);
  std::size_t found = 0, harmless = 0;  // a few bits mean nothing to the decoder
  for (std::size_t i = 0; i < stored.size(); i += 3) {
    stored[i] ^= std::byte{0x10};
    Bytes back(kSize);
    try {
      decompressor->decompress(stored, back);
      EXPECT_EQ(back, cluster) << i;
      ++harmless;
    } catch (const FormatError&) {
      ++found;
    }
    stored[i] ^= std::byte{0x10};
  }
  EXPECT_LT(harmless * 20, found);
  Bytes back(kSize);
  stored.back() ^= std::byte{1};  // of the checksum itself
  EXPECT_THROW(decompressor->decompress(stored, back), FormatError);
}

TEST(MostWorthKeeping, LeavesAtLeastOneByteAndOneOf128) {
  EXPECT_EQ(most_worth_keeping(512), 508u);
  EXPECT_EQ(most_worth_keeping(65536), 65024u);
  EXPECT_EQ(most_worth_keeping(2 << 20), (2u << 20) - 16384);
}

// What the bound on memory is divided by (build_pipeline.cc).
TEST(CompressorBytes, GrowWithTheLevelAndWithTheCluster) {
  const auto bytes = [](const char* text, std::size_t cluster) { return compressor_bytes(parse_compression(text), cluster); };
  EXPECT_LT(bytes("zlib", 65536), bytes("zlib:9", 65536));
  if (!is_built_in(Codec::zstd)) return;
  EXPECT_GT(bytes("zstd:19", 2u << 20), 16u << 20);
  EXPECT_LT(bytes("zstd", 65536), bytes("zstd:19", 65536));
  EXPECT_LT(bytes("zstd:19", 65536), bytes("zstd:19", 2u << 20));
}

}  // namespace
}  // namespace nasbackup
