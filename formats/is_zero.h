// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Is a span of bytes all zero? Safe everywhere.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

namespace nasbackup {

/// Compares the span with itself shifted by 16 bytes: memcmp is vectorised and leaves at the first difference, so data costs
/// next to nothing and only real zeroes are read to the end.
inline bool is_zero(std::span<const std::byte> bytes) noexcept {
  constexpr std::size_t kHead = 16;
  const std::size_t head = bytes.size() < kHead ? bytes.size() : kHead;
  for (std::size_t i = 0; i < head; ++i)
    if (bytes[i] != std::byte{0}) return false;
  return bytes.size() <= kHead || std::memcmp(bytes.data(), bytes.data() + kHead, bytes.size() - kHead) == 0;
}

}  // namespace nasbackup
