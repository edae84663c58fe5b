// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Sealed files: opened by their key and name alone, and never when anything of them was changed.
#include "formats/sealed_file.h"

#include <gtest/gtest.h>

#include "formats/format_error.h"
#include "tests/unit/crypto/counting_random.h"
#include "tests/unit/crypto/hex.h"

namespace nasbackup::sealed {
namespace {

crypto::Secret key_of(unsigned seed) {
  CountingRandom random(seed);
  crypto::Secret key(32);
  random.fill(key.bytes());
  return key;
}

std::vector<std::byte> sealed_text(std::string_view text) {
  CountingRandom random;
  return seal(key_of(7), "nvram.fd.sealed", bytes_of(text), random);
}

TEST(SealedFile, IsOpenedByItsKeyAndItsName) {
  for (const std::string& text : {std::string(), std::string("x"), std::string(100'000, 'n')}) {
    const auto content = open(key_of(7), "nvram.fd.sealed", sealed_text(text));
    EXPECT_TRUE(std::equal(content.begin(), content.end(), bytes_of(text).begin(), bytes_of(text).end())) << text.size();
  }
}

TEST(SealedFile, ShowsNothingOfItsContent) {
  const auto file = sealed_text("variables of the firmware");
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  EXPECT_EQ(bytes.find("variables"), std::string_view::npos);
}

TEST(SealedFile, IsNotOpenedByAnotherKeyOrUnderAnotherName) {
  const auto file = sealed_text("variables");
  EXPECT_THROW(open(key_of(8), "nvram.fd.sealed", file), FormatError);
  EXPECT_THROW(open(key_of(7), "tpm.nvram.sealed", file), FormatError);
}

TEST(SealedFile, WithAnyByteChangedOrMissingIsRefused) {
  const auto file = sealed_text("variables");
  for (std::size_t at = 0; at < file.size(); ++at) {
    auto changed = file;
    changed[at] ^= std::byte{0x10};
    EXPECT_THROW(open(key_of(7), "nvram.fd.sealed", changed), FormatError) << at;
    EXPECT_THROW(open(key_of(7), "nvram.fd.sealed", std::span(file).first(at)), FormatError) << at;
  }
}

}  // namespace
}  // namespace nasbackup::sealed
