// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the fuzz targets have in common. A target is one function from bytes to nothing: it may refuse them by the exception of
// the floor that it tries, and by no other; what must hold of what it took is required. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "formats/format_error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace nasbackup::fuzz {

using Bytes = std::vector<std::byte>;

inline std::span<const std::byte> bytes_of(const std::uint8_t* data, std::size_t size) noexcept {
  return std::as_bytes(std::span(data, size));
}

/// Like assert(), in every build.
inline void require(bool holds, const char* what) noexcept {
  if (holds) return;
  std::fprintf(stderr, "fuzz: does not hold: %s\n", what);
  std::abort();
}

/// What `parse` gives, or nothing when it refuses by `Error`.
template <class Error = FormatError, class Parse>
auto accepted(Parse&& parse) -> std::optional<std::invoke_result_t<Parse>> {
  try {
    return parse();
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Takes the input apart, from its beginning; what it lacks is zero.
class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

  std::uint8_t byte() noexcept {
    if (rest_.empty()) return 0;
    const auto value = std::to_integer<std::uint8_t>(rest_.front());
    rest_ = rest_.subspan(1);
    return value;
  }
  std::uint64_t word() noexcept {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value;
  }
  std::span<const std::byte> rest() const noexcept { return rest_; }

 private:
  std::span<const std::byte> rest_;
};

/// Room for `size` bytes in which every byte written beside it is seen, also where a library without sanitizers has written it.
class GuardedRoom {
 public:
  explicit GuardedRoom(std::size_t size) : all_(size + 2 * kGuard, kMark) {}
  ~GuardedRoom() {
    for (std::size_t i = 0; i < kGuard; ++i)
      require(all_[i] == kMark && all_[all_.size() - 1 - i] == kMark, "nothing is written outside the room");
  }
  GuardedRoom(const GuardedRoom&) = delete;
  GuardedRoom& operator=(const GuardedRoom&) = delete;

  std::span<std::byte> bytes() noexcept { return std::span(all_).subspan(kGuard, all_.size() - 2 * kGuard); }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr std::byte kMark{0xa5};
  Bytes all_;
};

}  // namespace nasbackup::fuzz
