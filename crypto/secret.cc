// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See secret.h.
#include "crypto/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <cstring>
#include <new>
#include <utility>

namespace nasbackup::crypto {

namespace {

std::size_t whole_pages(std::size_t size) {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (size > SIZE_MAX - page) throw std::bad_alloc();
  return (size + page - 1) / page * page;
}

}  // namespace

Secret::Secret(std::size_t size) : size_(size), mapped_(whole_pages(size)) {
  if (size == 0) return;
  void* pages = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  // Both as far as it goes: RLIMIT_MEMLOCK may be small, and a kernel may know neither.
  ::madvise(pages, mapped_, MADV_DONTDUMP);
  ::mlock(pages, mapped_);
  data_ = static_cast<std::byte*>(pages);
}

Secret Secret::copy_of(std::span<const std::byte> bytes) {
  Secret copy(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.data_, bytes.data(), bytes.size());
  return copy;
}

Secret::~Secret() { give_up(); }

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  give_up();
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  mapped_ = std::exchange(other.mapped_, 0);
  return *this;
}

void Secret::shorten(std::size_t size) noexcept {
  assert(size <= size_);
  if (data_ != nullptr) OPENSSL_cleanse(data_ + size, size_ - size);
  size_ = size;
}

void Secret::give_up() noexcept {
  if (data_ == nullptr) return;
  OPENSSL_cleanse(data_, mapped_);
  ::munmap(data_, mapped_);  // unlocks too
  data_ = nullptr;
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) noexcept {
  return a.size() == b.size() && (a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace nasbackup::crypto
