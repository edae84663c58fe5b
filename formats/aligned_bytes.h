// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Bytes that begin on a page, zero at first: what a layout makes itself can leave as directly (O_DIRECT) as the guest's clusters
// in their buffers. Movable; used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace nasbackup {

class AlignedBytes {
 public:
  static constexpr std::size_t kAlignment = 4096;

  AlignedBytes() noexcept = default;
  explicit AlignedBytes(std::size_t size)
      : bytes_(static_cast<std::byte*>(::operator new(size, std::align_val_t(kAlignment)))), size_(size) {
    std::memset(bytes_.get(), 0, size);
  }

  std::byte* data() const noexcept { return bytes_.get(); }
  std::size_t size() const noexcept { return size_; }
  std::span<std::byte> span() const noexcept { return {bytes_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const noexcept { ::operator delete(bytes, std::align_val_t(kAlignment)); }
  };
  std::unique_ptr<std::byte[], Free> bytes_;
  std::size_t size_ = 0;
};

}  // namespace nasbackup
