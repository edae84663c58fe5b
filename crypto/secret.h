// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Keys and passphrases: bytes in pages of their own, which are locked into memory as far as the limits allow, left out of core
// files, and wiped when they are given up. They can be moved but neither copied by accident nor printed. One object is used by
// one thread at a time; several may read it.
#pragma once

#include <cstddef>
#include <span>

namespace nasbackup::crypto {

class Secret {
 public:
  Secret() noexcept = default;
  /// `size` zero bytes. Throws std::bad_alloc.
  explicit Secret(std::size_t size);
  static Secret copy_of(std::span<const std::byte> bytes);
  ~Secret();
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;

  std::size_t size() const noexcept { return size_; }
  std::span<std::byte> bytes() noexcept { return {data_, size_}; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  /// Keeps the first `size` bytes; what follows is wiped at once.
  void shorten(std::size_t size) noexcept;

 private:
  void give_up() noexcept;

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_ = 0;
};

/// Takes the same time wherever they differ. False for different lengths.
bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) noexcept;

}  // namespace nasbackup::crypto
