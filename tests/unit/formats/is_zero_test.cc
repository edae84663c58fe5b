// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Zero detection, at every length and position.
#include "formats/is_zero.h"

#include <gtest/gtest.h>

#include <vector>

namespace nasbackup {
namespace {

TEST(IsZero, FindsASingleByteWhereverItIs) {
  for (const std::size_t length : {1u, 2u, 15u, 16u, 17u, 31u, 32u, 33u, 512u, 4096u}) {
    std::vector<std::byte> bytes(length);
    EXPECT_TRUE(is_zero(bytes)) << length;
    for (std::size_t i = 0; i < length; ++i) {
      bytes[i] = std::byte{1};
      EXPECT_FALSE(is_zero(bytes)) << length << " " << i;
      bytes[i] = std::byte{0};
    }
  }
  EXPECT_TRUE(is_zero({}));
}

}  // namespace
}  // namespace nasbackup
