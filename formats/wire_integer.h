// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Big-endian integers as they travel in a stream, where nothing is aligned: like BigEndian, but a struct of them has no gaps, so
// that it is its own wire form. Plain values, safe everywhere.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace nasbackup {

template <std::unsigned_integral T>
class WireInteger {
 public:
  constexpr WireInteger() noexcept = default;
  constexpr WireInteger(T value) noexcept {  // NOLINT: assignment from the native value is the point
    for (std::size_t i = sizeof(T); i-- > 0; value = static_cast<T>(sizeof(T) == 1 ? 0 : value >> 8))
      raw_[i] = static_cast<unsigned char>(value);
  }
  constexpr operator T() const noexcept {  // NOLINT
    T value = 0;
    for (const unsigned char byte : raw_) value = static_cast<T>(value << 8 | byte);
    return value;
  }

 private:
  std::array<unsigned char, sizeof(T)> raw_{};
};

using Wire16 = WireInteger<std::uint16_t>;
using Wire32 = WireInteger<std::uint32_t>;
using Wire64 = WireInteger<std::uint64_t>;
static_assert(sizeof(Wire16) == 2 && sizeof(Wire32) == 4 && sizeof(Wire64) == 8 && alignof(Wire64) == 1);

/// The struct that the first bytes are. There are enough of them.
template <class Struct>
Struct from_wire(std::span<const std::byte> bytes) noexcept {
  static_assert(std::is_trivially_copyable_v<Struct> && alignof(Struct) == 1);
  Struct result;
  std::memcpy(&result, bytes.data(), sizeof result);
  return result;
}

/// (Not by insert(), whose moves g++ 12 warns of.)
inline void append_bytes(std::vector<std::byte>& bytes, std::span<const std::byte> more) {
  if (more.empty()) return;
  const std::size_t size = bytes.size();
  bytes.resize(size + more.size());
  std::memcpy(bytes.data() + size, more.data(), more.size());
}

template <class Struct>
void append_wire(std::vector<std::byte>& bytes, const Struct& value) {
  static_assert(std::is_trivially_copyable_v<Struct> && alignof(Struct) == 1);
  append_bytes(bytes, std::as_bytes(std::span(&value, 1)));
}

}  // namespace nasbackup
