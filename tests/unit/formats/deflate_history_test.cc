// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "formats/deflate_history.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <bit>
#include <cstring>
#include <random>

#include "formats/qcow2_format.h"

namespace nasbackup::qcow2 {
namespace {

constexpr std::size_t kCluster = 65536;
using Bytes = std::vector<std::byte>;

/// Random text of `period` bytes, over and over: only who looks back so far finds the repetition.
Bytes repeating_after(std::size_t period) {
  std::mt19937 random(1);
  Bytes bytes(kCluster);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = i < period ? std::byte(random()) : bytes[i - period];
  return bytes;
}

Bytes deflated(const Bytes& cluster, int window_bits) {
  z_stream stream{};
  EXPECT_EQ(Z_OK, deflateInit2(&stream, 9, Z_DEFLATED, -window_bits, 9, Z_DEFAULT_STRATEGY));
  Bytes out(2 * kCluster);
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(cluster.data()));
  stream.avail_in = static_cast<uInt>(cluster.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(Z_STREAM_END, deflate(&stream, Z_FINISH));
  out.erase(out.end() - static_cast<std::ptrdiff_t>(stream.avail_out), out.end());
  deflateEnd(&stream);
  return out;
}

/// L1 at 64 KiB, one L2 table behind it, compressed clusters one after the other behind that.
class Image {
 public:
  Image() : bytes_(3 * kCluster) {
    header.version = 3;
    header.cluster_size = kCluster;
    header.l1_offset = kCluster;
    header.l1_entries = 1;
    put(kCluster, (2 * kCluster) | kEntryCopied);
  }

  void add(const Bytes& stream) {
    const std::uint64_t offset = bytes_.size(), sectors = (offset % 512 + stream.size() - 1) / 512;
    put(2 * kCluster + 8 * count_++, kEntryCompressed | sectors << compressed_offset_bits(16) | offset);
    bytes_.insert(bytes_.end(), stream.begin(), stream.end());
  }

  void put(std::uint64_t at, std::uint64_t entry) {
    const Be64 value(entry);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }

  std::optional<std::uint32_t> history() const {
    return deflate_history(header, [&](std::uint64_t offset, std::span<std::byte> into) {
      read_ += into.size();
      if (offset >= bytes_.size()) return std::size_t{0};
      const std::size_t got = std::min<std::size_t>(into.size(), bytes_.size() - offset);
      std::memcpy(into.data(), bytes_.data() + offset, got);
      return got;
    });
  }
  std::uint64_t read() const { return read_; }

  HeaderFacts header;

 private:
  Bytes bytes_;
  std::uint64_t count_ = 0;
  mutable std::uint64_t read_ = 0;
};

TEST(DeflateHistory, IsLongOnlyWhereAStreamNeedsIt) {
  EXPECT_FALSE(looks_back_further(deflated(repeating_after(3000), 15), kCluster));
  EXPECT_FALSE(looks_back_further(deflated(repeating_after(9000), 12), kCluster));
  EXPECT_TRUE(looks_back_further(deflated(repeating_after(9000), 15), kCluster));
  EXPECT_TRUE(looks_back_further(deflated(repeating_after(4096 + 512), 15), kCluster));
}

TEST(DeflateHistory, OfWhatIsNoStreamIsShort) { EXPECT_FALSE(looks_back_further(repeating_after(kCluster), kCluster)); }

TEST(DeflateHistory, OfAnImageIsThatOfItsLongestStream) {
  Image image;
  for (int i = 0; i < 5; ++i) image.add(deflated(repeating_after(3000), 12));
  EXPECT_EQ(kShortHistory, image.history());
  image.add(deflated(repeating_after(9000), 15));
  EXPECT_EQ(kLongHistory, image.history());
}

TEST(DeflateHistory, IsNotSaidWithoutCompressedClusters) {
  Image image;
  EXPECT_EQ(std::nullopt, image.history());
  image.put(2 * kCluster, kCluster | kEntryCopied);
  EXPECT_EQ(std::nullopt, image.history());
}

TEST(DeflateHistory, IsNotSaidOfZstd) {
  Image image;
  image.add(deflated(repeating_after(9000), 15));
  image.header.compression_type = kZstd;
  EXPECT_EQ(std::nullopt, image.history());
}

TEST(DeflateHistory, ReadsLittleOfHostileTables) {
  Image image;
  image.header.l1_entries = kMaxL1Bytes / 8;
  for (int i = 0; i < 8000; ++i) image.put(kCluster + 8 * i, (std::uint64_t(i) << 40) | (2 * kCluster));
  for (int i = 0; i < 8000; ++i) image.put(2 * kCluster + 8 * i, ~std::uint64_t{0} >> (i % 2));
  image.history();
  EXPECT_LT(image.read(), kMaxL1Bytes + (64u << 16) + 32u * (3 * kCluster));
}

}  // namespace
}  // namespace nasbackup::qcow2
