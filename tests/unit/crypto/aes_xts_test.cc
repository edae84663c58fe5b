// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The vectors of IEEE 1619-2007, annex B, and what a LUKS payload needs beyond them.
#include "crypto/aes_xts.h"

#include <gtest/gtest.h>

#include <thread>

#include "crypto/crypto_error.h"
#include "tests/unit/crypto/hex.h"

namespace nasbackup::crypto {
namespace {

constexpr std::string_view kKey256 =
    "2718281828459045235360287471352662497757247093699959574966967627"
    "3141592653589793238462643383279502884197169399375105820974944592";
constexpr std::string_view kKey128 = "2718281828459045235360287471352631415926535897932384626433832795";

std::vector<std::byte> counting(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

std::string ends_of(std::span<const std::byte> sector) { return to_hex(sector.first(32)) + "..." + to_hex(sector.last(16)); }

TEST(AesXts, Encrypts256BitVector10OfTheStandard) {
  auto sector = counting(512);
  AesXts(from_hex(kKey256)).encrypt(0xff, sector);
  EXPECT_EQ(ends_of(sector),
            "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b...c4f36ffda9fcea70b9c6e693e148c151");
}

TEST(AesXts, Encrypts128BitVector4OfTheStandard) {
  auto sector = counting(512);
  AesXts(from_hex(kKey128)).encrypt(0, sector);
  EXPECT_EQ(ends_of(sector),
            "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c...0a282df920147beabe421ee5319d0568");
}

TEST(AesXts, GivesEverySectorItsOwnTweak) {
  const AesXts cipher(from_hex(kKey256));
  auto together = counting(4 * 512);
  cipher.encrypt(0xfffffffe, together);  // the tweak has 64 bits
  for (std::size_t i = 0; i < 4; ++i) {
    auto alone = counting(4 * 512);
    const auto sector = std::span(alone).subspan(i * 512, 512);
    cipher.encrypt(0xfffffffe + i, sector);
    EXPECT_EQ(to_hex(sector), to_hex(std::span(together).subspan(i * 512, 512))) << i;
  }
  EXPECT_NE(ends_of(std::span(together).first(512)), ends_of(std::span(together).last(512)));
}

TEST(AesXts, DecryptsWhatItEncrypted) {
  const AesXts cipher(from_hex(kKey256));
  auto bytes = counting(65536);
  cipher.encrypt(7, bytes);
  EXPECT_NE(bytes, counting(65536));
  cipher.decrypt(7, bytes);
  EXPECT_EQ(bytes, counting(65536));
}

TEST(AesXts, MayBeUsedBySeveralThreadsAtOnce) {
  const AesXts cipher(from_hex(kKey256));
  auto expected = counting(65536);
  cipher.encrypt(1, expected);
  std::vector<std::vector<std::byte>> results(4, counting(65536));
  std::vector<std::thread> threads;
  for (auto& bytes : results)
    threads.emplace_back([&] {
      for (int turn = 0; turn < 10; ++turn) {
        cipher.encrypt(1, bytes);
        if (turn < 9) cipher.decrypt(1, bytes);
      }
    });
  for (auto& thread : threads) thread.join();
  for (const auto& bytes : results) EXPECT_EQ(bytes, expected);
}

TEST(AesXts, RefusesKeysOfAnotherSizeAndEqualHalves) {
  for (const std::size_t size : {0, 16, 31, 48, 65}) EXPECT_THROW(AesXts(counting(size)), CryptoError) << size;
  EXPECT_THROW(AesXts(std::vector<std::byte>(64)), CryptoError);
}

}  // namespace
}  // namespace nasbackup::crypto
