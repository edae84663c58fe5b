// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// HMAC, HKDF, AES-GCM, GMAC and XXH3 against the vectors of their specifications; the wrapping of a key against every change.
#include <gtest/gtest.h>

#include <thread>

#include "crypto/aes_gcm.h"
#include "crypto/crypto_error.h"
#include "crypto/gmac.h"
#include "crypto/hkdf.h"
#include "crypto/hmac.h"
#include "crypto/key_wrap.h"
#include "crypto/xxh3.h"
#include "tests/unit/crypto/counting_random.h"
#include "tests/unit/crypto/hex.h"

namespace nasbackup::crypto {
namespace {

std::vector<std::byte> repeated(unsigned value, std::size_t times) {
  return std::vector<std::byte>(times, static_cast<std::byte>(value));
}

std::vector<std::byte> counting(std::size_t size, unsigned from = 0) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(from + i);
  return bytes;
}

template <std::size_t N>
std::array<std::byte, N> array_of(const std::vector<std::byte>& bytes) {
  std::array<std::byte, N> array{};
  EXPECT_EQ(bytes.size(), N);
  std::copy_n(bytes.begin(), N, array.begin());
  return array;
}

TEST(Hmac, IsThatOfRfc4231) {
  EXPECT_EQ(to_hex(hmac_sha256(repeated(0x0b, 20), bytes_of("Hi There"))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(to_hex(hmac_sha256(bytes_of("Jefe"), bytes_of("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(to_hex(hmac_sha256(repeated(0xaa, 131), bytes_of("Test Using Larger Than Block-Size Key - Hash Key First"))),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Hmac, OfNothingUnderNoKeyIsOneToo) {
  EXPECT_EQ(to_hex(hmac_sha256({}, {})), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(Hkdf, IsThatOfRfc5869) {
  const auto info = from_hex("f0f1f2f3f4f5f6f7f8f9");
  const std::string_view purpose(reinterpret_cast<const char*>(info.data()), info.size());
  EXPECT_EQ(to_hex(hkdf_sha256(repeated(0x0b, 22), counting(13), purpose, 42).bytes()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  EXPECT_EQ(to_hex(hkdf_sha256(repeated(0x0b, 22), {}, "", 42).bytes()),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
  const auto long_info = counting(80, 0xb0);
  const std::string_view long_purpose(reinterpret_cast<const char*>(long_info.data()), long_info.size());
  EXPECT_EQ(to_hex(hkdf_sha256(counting(80), counting(80, 0x60), long_purpose, 82).bytes()),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
}

TEST(Hkdf, RefusesSizesThatItDoesNotHave) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{255 * 32 + 1}})
    EXPECT_THROW(hkdf_sha256(counting(32), {}, "x", size), CryptoError) << size;
}

struct GcmVector {
  std::vector<std::byte> key = from_hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
  GcmNonce nonce = array_of<12>(from_hex("cafebabefacedbaddecaf888"));
  std::vector<std::byte> shown = from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  std::vector<std::byte> plain = from_hex(
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
  std::string sealed =
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662";
  std::string tag = "76fc6ece0f4e1768cddf8853bb2d551b";
};

TEST(AesGcm, SealsTestCase16OfItsSpecificationAndOpensItAgain) {
  const GcmVector vector;
  auto message = vector.plain;
  const GcmTag tag = gcm_seal(vector.key, vector.nonce, vector.shown, message);
  EXPECT_EQ(to_hex(message), vector.sealed);
  EXPECT_EQ(to_hex(tag), vector.tag);
  EXPECT_TRUE(gcm_open(vector.key, vector.nonce, vector.shown, message, tag));
  EXPECT_EQ(message, vector.plain);
}

TEST(AesGcm, OpensNothingThatWasChangedAndGivesNoneOfIt) {
  const GcmVector vector;
  auto sealed = vector.plain;
  const GcmTag tag = gcm_seal(vector.key, vector.nonce, vector.shown, sealed);
  const auto refused = [&](auto change) {
    auto key = vector.key, shown = vector.shown, message = sealed;
    auto nonce = vector.nonce;
    auto changed_tag = tag;
    change(key, nonce, shown, message, changed_tag);
    EXPECT_FALSE(gcm_open(key, nonce, shown, message, changed_tag));
    EXPECT_EQ(message, std::vector<std::byte>(message.size()));
  };
  refused([](auto& key, auto&, auto&, auto&, auto&) { key[31] ^= std::byte{1}; });
  refused([](auto&, auto& nonce, auto&, auto&, auto&) { nonce[0] ^= std::byte{1}; });
  refused([](auto&, auto&, auto& shown, auto&, auto&) { shown[19] ^= std::byte{0x80}; });
  refused([](auto&, auto&, auto&, auto& message, auto&) { message[7] ^= std::byte{1}; });
  refused([](auto&, auto&, auto&, auto& message, auto&) { message.pop_back(); });
  refused([](auto&, auto&, auto&, auto&, auto& changed) { changed[15] ^= std::byte{1}; });
}

TEST(AesGcm, RefusesKeysOfAnotherSize) {
  std::vector<std::byte> message(1);
  EXPECT_THROW(gcm_seal(counting(16), {}, {}, message), CryptoError);
}

TEST(Gmac, OfNothingUnderTheZeroKeyIsTestCase13OfTheSpecification) {
  EXPECT_EQ(to_hex(Gmac(repeated(0, 32)).tagger().tag(0, {})), "530f8afbc74536b9a963b4f1c4cb738b");
}

/// The nonce in words of its own: what a reader that somebody else writes does.
GcmTag gmac_by_gcm(std::span<const std::byte> key, std::uint64_t number, std::span<const std::byte> piece) {
  GcmNonce nonce{};
  for (int i = 0; i < 8; ++i) nonce[4 + i] = static_cast<std::byte>(number >> (56 - 8 * i));
  return gcm_seal(key, nonce, piece, {});
}

TEST(Gmac, IsAesGcmWithoutAMessageAndThePiecesNumberAsNonce) {
  const auto key = counting(32), piece = counting(65536, 3);
  auto tagger = Gmac(key).tagger();
  for (const std::uint64_t number : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0x0102030405060708}, UINT64_MAX})
    EXPECT_EQ(to_hex(tagger.tag(number, piece)), to_hex(gmac_by_gcm(key, number, piece))) << number;
}

TEST(Gmac, DiffersForEachPieceAndEachNumber) {
  auto tagger = Gmac(counting(32)).tagger();
  auto piece = counting(65536);
  const auto tag = tagger.tag(5, piece);
  EXPECT_NE(tagger.tag(6, piece), tag);
  piece[40000] ^= std::byte{1};
  EXPECT_NE(tagger.tag(5, piece), tag);
  piece[40000] ^= std::byte{1};
  EXPECT_EQ(tagger.tag(5, piece), tag);
}

TEST(Gmac, MayBeUsedBySeveralThreadsAtOnce) {
  const Gmac gmac(counting(32));
  const auto piece = counting(65536);
  const auto expected = gmac.tagger().tag(9, piece);
  std::vector<Gmac::Tag> tags(4);
  std::vector<std::thread> threads;
  for (auto& tag : tags)
    threads.emplace_back([&] {
      auto tagger = gmac.tagger();
      for (std::uint64_t number = 0; number < 10; ++number) tag = tagger.tag(number, piece);
    });
  for (auto& thread : threads) thread.join();
  for (const auto& tag : tags) EXPECT_EQ(tag, expected);
}

TEST(Gmac, RefusesKeysOfAnotherSize) {
  for (const std::size_t size : {0, 16, 31, 33, 64}) EXPECT_THROW(Gmac(counting(size)), CryptoError) << size;
}

TEST(Xxh3, IsThatOfTheReferenceProgram) {
  EXPECT_EQ(to_hex(xxh3_128({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(to_hex(xxh3_128(bytes_of("a"))), "a96faf705af16834e6c632b61e964e1f");
}

TEST(WrappedKey, IsGivenBackToTheSameOuterKeyAndPurposeAlone) {
  CountingRandom random;
  const auto outer = counting(64);
  const Secret key = Secret::copy_of(counting(32, 100));
  const Wrapping wrapping = wrap_key(outer, "a purpose", key, random);
  const auto again = unwrap_key(outer, "a purpose", wrapping);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(to_hex(again->bytes()), to_hex(key.bytes()));
  EXPECT_FALSE(unwrap_key(outer, "another purpose", wrapping).has_value());
  EXPECT_FALSE(unwrap_key(counting(64, 1), "a purpose", wrapping).has_value());
  EXPECT_EQ(to_hex(wrapping).find(to_hex(key.bytes())), std::string::npos);
}

TEST(WrappedKey, WithAnyBitChangedIsRefused) {
  CountingRandom random;
  const Wrapping wrapping = wrap_key(counting(64), "a purpose", Secret::copy_of(counting(32)), random);
  for (std::size_t bit = 0; bit < 8 * wrapping.size(); ++bit) {
    Wrapping changed = wrapping;
    changed[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    EXPECT_FALSE(unwrap_key(counting(64), "a purpose", changed).has_value()) << bit;
  }
}

TEST(WrappedKey, IsOtherBytesEachTime) {
  CountingRandom random;
  const Secret key = Secret::copy_of(counting(32));
  EXPECT_NE(wrap_key(counting(64), "a purpose", key, random), wrap_key(counting(64), "a purpose", key, random));
}

}  // namespace
}  // namespace nasbackup::crypto
