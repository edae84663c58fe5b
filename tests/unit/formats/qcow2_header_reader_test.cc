// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Headers that others made, and headers that nobody should have made.
#include "formats/qcow2_header_reader.h"

#include <vector>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "formats/format_error.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_header.h"

namespace nasbackup::qcow2 {
namespace {

std::vector<std::byte> good_header(CompressionType compression = kZlib) {
  const std::vector<std::byte> cluster = header_cluster(Geometry::of(10 << 20, 65536), compression);
  return cluster;
}

template <class T>
void put(std::vector<std::byte>& bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

TEST(Qcow2Header, SaysWhatWeWrote) {
  const auto facts = parse_header(good_header());
  EXPECT_EQ(facts.version, 3u);
  EXPECT_EQ(facts.virtual_size, 10u << 20);
  EXPECT_EQ(facts.cluster_size, 65536u);
  EXPECT_EQ(facts.crypt_method, 0u);
  EXPECT_TRUE(facts.backing_file.empty());
}

TEST(Qcow2Header, SetsTheCompressionBitForZstdAlone) {
  EXPECT_EQ(parse_header(good_header(kZstd)).compression_type, kZstd);
  const auto feature_bits = [](const std::vector<std::byte>& bytes) { return std::to_integer<int>(bytes[79]); };
  EXPECT_EQ(feature_bits(good_header(kZstd)), 8);
  EXPECT_EQ(feature_bits(good_header(kZlib)), 0);
}

TEST(Qcow2Header, FindsBackingFileAndItsFormat) {
  auto bytes = good_header();
  const ExtensionHead head{kExtensionBackingFormat, 5u};
  put(bytes, 112, head);
  std::memcpy(bytes.data() + 120, "qcow2\0\0\0", 8);
  put(bytes, 128, ExtensionHead{kExtensionEnd, 0u});
  std::memcpy(bytes.data() + 1000, "../parent.qcow2", 15);
  put(bytes, offsetof(Header, backing_file_offset), Be64(1000));
  put(bytes, offsetof(Header, backing_file_size), Be32(15));
  const auto facts = parse_header(bytes);
  EXPECT_EQ(facts.backing_file, "../parent.qcow2");
  EXPECT_EQ(facts.backing_format, "qcow2");
}

std::vector<std::byte> encrypted_header(std::uint64_t offset, std::uint64_t length, std::uint32_t size = 16) {
  auto bytes = good_header();
  put(bytes, offsetof(Header, crypt_method), Be32(kCryptLuks));
  put(bytes, 112, ExtensionHead{kExtensionCryptoHeader, size});
  put(bytes, 120, CryptoHeaderPointer{offset, length});
  put(bytes, 136, ExtensionHead{kExtensionEnd, 0u});
  return bytes;
}

TEST(Qcow2Header, FindsTheLuksHeader) {
  const auto facts = parse_header(encrypted_header(3 * 65536, 2068480));
  EXPECT_EQ(facts.crypto_header_offset, 3u * 65536);
  EXPECT_EQ(facts.crypto_header_length, 2068480u);
}

TEST(Qcow2Header, RefusesALuksHeaderOutOfPlace) {
  EXPECT_THROW(parse_header(encrypted_header(0, 2068480)), FormatError);
  EXPECT_THROW(parse_header(encrypted_header(65537, 2068480)), FormatError);
  EXPECT_THROW(parse_header(encrypted_header(65536, 0)), FormatError);
  EXPECT_THROW(parse_header(encrypted_header(65536, (16u << 20) + 1)), FormatError);
  EXPECT_THROW(parse_header(encrypted_header(65536, 2068480, 8)), FormatError);
  auto plain = encrypted_header(65536, 2068480);
  put(plain, offsetof(Header, crypt_method), Be32(0));
  EXPECT_THROW(parse_header(plain), FormatError);
  auto without = good_header();
  put(without, offsetof(Header, crypt_method), Be32(kCryptLuks));
  EXPECT_THROW(parse_header(without), FormatError);
}

TEST(Qcow2Header, RefusesEachFieldOutOfItsBounds) {
  struct Damage {
    const char* name;
    std::size_t offset;
    std::uint32_t value;
  };
  const Damage damages[] = {{"magic", 0, 1},
                            {"version", 4, 4},
                            {"cluster bits, small", 20, 8},
                            {"cluster bits, large", 20, 22},
                            {"crypt method", 32, 3},
                            {"header length, odd", 100, 105},
                            {"header length, short", 100, 96},
                            {"header length, long", 100, 1 << 20},
                            {"backing file outside", offsetof(Header, backing_file_offset), 1},
                            {"extension length", 116, 0x7fffffff}};
  for (const Damage& damage : damages) {
    auto bytes = good_header();
    put(bytes, damage.offset, Be32(damage.value));
    EXPECT_THROW(parse_header(bytes), FormatError) << damage.name;
  }
}

TEST(Qcow2Header, RefusesEveryTruncation) {
  const auto whole = good_header();
  for (std::size_t length = 0; length < 112; ++length)
    EXPECT_THROW(parse_header(std::span(whole).first(length)), FormatError) << length;
}

TEST(Qcow2Header, NeverReadsOutsideWhateverTheBytesAre) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    auto bytes = good_header();
    bytes.resize(112 + random() % 1000);
    for (int change = 0; change < 6; ++change) bytes[8 + random() % (bytes.size() - 8)] = static_cast<std::byte>(random());
    try {
      parse_header(bytes);
    } catch (const FormatError&) {
    }
  }
}

}  // namespace
}  // namespace nasbackup::qcow2
