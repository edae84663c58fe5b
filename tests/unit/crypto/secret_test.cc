// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a Secret promises: pages of its own that no core file has, moved and never copied.
#include "crypto/secret.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <type_traits>

#include "crypto/random_source.h"
#include "tests/unit/crypto/hex.h"

namespace nasbackup::crypto {
namespace {

static_assert(!std::is_copy_constructible_v<Secret> && !std::is_copy_assignable_v<Secret>);
static_assert(std::is_nothrow_move_constructible_v<Secret> && std::is_nothrow_move_assignable_v<Secret>);

/// The line "VmFlags:" of the mapping that holds `address`; empty: none does.
std::string flags_of(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t start = 0, end = 0;
    char dash = 0;
    std::istringstream words(line);
    if (words >> std::hex >> start >> dash >> end && dash == '-') inside = start <= wanted && wanted < end;
    if (inside && line.starts_with("VmFlags:")) return line + " ";
  }
  return {};
}

TEST(ASecret, StaysOutOfCoreFiles) {
  Secret secret(64);
  secret.bytes()[0] = std::byte{1};
  EXPECT_NE(flags_of(secret.bytes().data()).find(" dd "), std::string::npos) << flags_of(secret.bytes().data());
}

// The sanitizers turn mlock() into nothing.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
TEST(ASecret, IsLockedIntoMemory) {
  const Secret secret(64);  // within any limit
  EXPECT_NE(flags_of(secret.bytes().data()).find(" lo "), std::string::npos) << flags_of(secret.bytes().data());
}
#endif

TEST(ASecret, GivesItsPagesBack) {
  const std::byte* address = nullptr;
  {
    const Secret secret(1 << 20);
    address = secret.bytes().data();
    EXPECT_FALSE(flags_of(address).empty());
  }
  EXPECT_EQ(flags_of(address).find(" dd "), std::string::npos);
}

TEST(ASecret, MovesWithItsBytes) {
  Secret first = Secret::copy_of(bytes_of("correct horse"));
  const auto* where = first.bytes().data();
  Secret second(4);
  second = std::move(first);
  EXPECT_EQ(second.bytes().data(), where);
  EXPECT_EQ(to_hex(second.bytes()), to_hex(bytes_of("correct horse")));
  EXPECT_EQ(first.size(), 0u);  // NOLINT: what is left behind is empty
}

TEST(ASecret, WipesWhatItIsShortenedBy) {
  Secret secret = Secret::copy_of(bytes_of("correct horse"));
  const std::span<const std::byte> all = secret.bytes();
  secret.shorten(7);
  EXPECT_EQ(to_hex(all), to_hex(bytes_of("correct")) + "000000000000");
  EXPECT_EQ(secret.size(), 7u);
}

TEST(SameBytes, ComparesLengthAndContent) {
  EXPECT_TRUE(same_bytes(bytes_of("abc"), bytes_of("abc")));
  EXPECT_TRUE(same_bytes({}, {}));
  EXPECT_FALSE(same_bytes(bytes_of("abc"), bytes_of("abd")));
  EXPECT_FALSE(same_bytes(bytes_of("abc"), bytes_of("ab")));
}

TEST(SystemRandom, FillsEverythingAndNeverTheSame) {
  std::vector<std::byte> a((3u << 20) + 1), b(a.size());
  system_random().fill(a);
  system_random().fill(b);
  EXPECT_NE(a, b);
  EXPECT_NE(to_hex(std::span(a).last(64)), std::string(128, '0'));
}

}  // namespace
}  // namespace nasbackup::crypto
