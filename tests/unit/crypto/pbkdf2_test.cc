// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The vectors of RFC 6070 (SHA-1) and RFC 7914, section 11 (SHA-256); the others were made with Python's hashlib.
#include "crypto/pbkdf2.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "crypto/crypto_error.h"
#include "tests/unit/crypto/hex.h"

namespace nasbackup::crypto {
namespace {

using namespace std::string_view_literals;

std::string derive(Hash hash, std::string_view passphrase, std::string_view salt, std::uint32_t iterations, std::size_t size) {
  std::vector<std::byte> key(size);
  pbkdf2(hash, bytes_of(passphrase), bytes_of(salt), iterations, key);
  return to_hex(key);
}

TEST(Pbkdf2, MatchesRfc6070WithSha1) {
  EXPECT_EQ(derive(Hash::sha1, "password", "salt", 1, 20), "0c60c80f961f0e71f3a9b524af6012062fe037a6");
  EXPECT_EQ(derive(Hash::sha1, "password", "salt", 2, 20), "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
  EXPECT_EQ(derive(Hash::sha1, "password", "salt", 4096, 20), "4b007901b765489abead49d926f721d065a429c1");
  EXPECT_EQ(derive(Hash::sha1, "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096, 25),
            "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038");
  EXPECT_EQ(derive(Hash::sha1, "pass\0word"sv, "sa\0lt"sv, 4096, 16), "56fa6aa75548099dcc37d7f03425e0c3");
}

TEST(Pbkdf2, MatchesRfc7914WithSha256) {
  EXPECT_EQ(derive(Hash::sha256, "passwd", "salt", 1, 64),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
            "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
  EXPECT_EQ(derive(Hash::sha256, "Password", "NaCl", 80000, 64),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
            "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d");
}

TEST(Pbkdf2, TakesPassphrasesOfEveryLength) {
  EXPECT_EQ(derive(Hash::sha256, "", "salt", 3, 40),
            "5ddf839afa2d5fb4be56e1a0f48917617559bef61ec122bfca1c7f75ac8f401d060b470b70403497");
  EXPECT_EQ(derive(Hash::sha256, std::string(200, 'x'), "salt", 3, 40),
            "287c49d10c76a257901dd1040c538f08b846734d343bbe2e0330f601abf41c81fc74fde8c7eccb8f");
}

TEST(Pbkdf2, KnowsSha512) {
  EXPECT_EQ(derive(Hash::sha512, "password", "salt", 1000, 80),
            "afe6c5530785b6cc6b1c6453384731bd5ee432ee549fd42fb6695779ad8a1c5bf59de69c48f774efc4007d5298f9033c"
            "0241d5ab69305e7b64eceeb8d834cfec6afdec3c1c23982a121f2d4be0088893");
}

TEST(Pbkdf2Block, WritesItsOwnPartOfTheKeyOnly) {
  const std::string whole = derive(Hash::sha256, "passwd", "salt", 5, 50);
  ASSERT_EQ(pbkdf2_blocks(Hash::sha256, 50), 2u);
  std::vector<std::byte> key(50);
  pbkdf2_block(Hash::sha256, bytes_of("passwd"), bytes_of("salt"), 5, 1, key);
  EXPECT_EQ(to_hex(key), std::string(64, '0') + whole.substr(64));
  pbkdf2_block(Hash::sha256, bytes_of("passwd"), bytes_of("salt"), 5, 0, key);
  EXPECT_EQ(to_hex(key), whole);
}

// The count is that of a hostile header: without the stop it takes minutes.
TEST(Pbkdf2Block, EndsWhenItIsAskedToStop) {
  std::stop_source stop;
  const std::jthread asking([&stop] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    stop.request_stop();
  });
  std::vector<std::byte> key(32);
  EXPECT_THROW(pbkdf2_block(Hash::sha256, bytes_of("p"), bytes_of("s"), 0xffffffff, 0, key, stop.get_token()), Stopped);
}

}  // namespace
}  // namespace nasbackup::crypto
