// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The splitter against values of an independent implementation (a few lines of Python), and there and back.
#include "crypto/af_split.h"

#include <gtest/gtest.h>

#include "tests/unit/crypto/hex.h"

namespace nasbackup::crypto {
namespace {

std::vector<std::byte> counting(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

std::vector<std::byte> split(Hash hash, std::size_t key_bytes, std::size_t stripes) {
  std::vector<std::byte> material(key_bytes * stripes);
  for (std::size_t i = 0; i < material.size(); ++i) material[i] = static_cast<std::byte>(i * 7 % 251);
  af_complete(hash, counting(key_bytes), material);
  return material;
}

std::string last_stripe(Hash hash, std::size_t key_bytes) {
  const auto material = split(hash, key_bytes, 4);
  return to_hex(std::span(material).last(key_bytes));
}

TEST(AfSplit, GivesTheLastStripeThatTheSpecificationAsksFor) {
  EXPECT_EQ(last_stripe(Hash::sha1, 32), "5119d6c3695fd1b6650f7daa7e63b025a59e8994832962357a8fd014682e3dc2");
  EXPECT_EQ(last_stripe(Hash::sha256, 64),
            "873e46763cebcb99a0330d74e6de60445da3a0c634d040b614b9e90b8991951b"
            "62c87cef1e8e3a9f59b09fc2cf3cb1ecfafb6e9e1c65601740c64cff7ba81943");
  EXPECT_EQ(last_stripe(Hash::sha512, 48),
            "bcafff346ac73627df95397f4809129e2e12660ac7ea751a3e7c431fbabff634e8cce961ca049cc4f31ad9586484a351");
}

TEST(AfSplit, IsUndoneByTheMerge) {
  for (const Hash hash : {Hash::sha1, Hash::sha256, Hash::sha512})
    for (const std::size_t size : {32u, 64u}) {
      std::vector<std::byte> key(size);
      af_merge(hash, split(hash, size, 4000), key);
      EXPECT_EQ(key, counting(size));
    }
}

TEST(AfSplit, LosesTheKeyWithAnyBitOfTheMaterial) {
  const auto material = split(Hash::sha256, 64, 100);
  for (const std::size_t at : {std::size_t{0}, std::size_t{50 * 64}, material.size() - 1}) {
    auto damaged = material;
    damaged[at] ^= std::byte{1};
    std::vector<std::byte> key(64);
    af_merge(Hash::sha256, damaged, key);
    EXPECT_NE(key, counting(64)) << at;
  }
}

}  // namespace
}  // namespace nasbackup::crypto
