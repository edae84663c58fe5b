// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One open image of a Ceph cluster (librbd). Opening, closing, and what is not a coroutine blocks; coroutines run on the loop
// that awaits them. What was begun is always waited for, because the library writes into our buffer until it has called back.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "engine/io/rbd_pool.h"
#include "formats/units.h"

namespace nasbackup {

namespace asio = boost::asio;

/// What the image's header says.
struct RbdFacts {
  std::uint64_t size = 0;
  std::uint64_t period = 0;       ///< bytes after which the objects' pattern begins anew: an object, or with striping several
  std::uint64_t overlap = 0;      ///< bytes that may come from the image that it was cloned from
  bool keeps_object_map = false;  ///< knows which objects there are, and need not ask for each (feature fast-diff)
  std::string id;
  std::int64_t modified_ns = 0;  ///< Ceph keeps it to the minute
};

class RbdImage {
 public:
  enum class Use { reading, writing };

  /// Throws Fault. Read-only opening leaves no trace: no watcher, no lock.
  RbdImage(std::shared_ptr<RbdPool> pool, const std::string& image, const std::string& snapshot, Use use);
  ~RbdImage();
  RbdImage(const RbdImage&) = delete;
  RbdImage& operator=(const RbdImage&) = delete;

  const RbdFacts& facts() const noexcept { return facts_; }
  RbdPool& pool() const noexcept { return *pool_; }

  /// What may hold data of `about`, in order; it begins at a multiple of the period. Throws Fault.
  std::vector<GuestRange> data_ranges(GuestRange about, const std::stop_token& stop) const;
  /// Who else uses it, in words; empty: nobody. A lock of librbd's own whose owner no longer watches the image is a dead one's,
  /// which the next writer takes over. Throws Fault.
  std::string other_user() const;

  asio::awaitable<void> read(std::uint64_t offset, std::span<std::byte> into);
  asio::awaitable<void> write(std::uint64_t offset, std::span<const std::byte> bytes);
  asio::awaitable<void> zero(std::uint64_t offset, std::uint64_t length);
  asio::awaitable<void> flush();

 private:
  struct Command;
  void read_facts();
  std::string other_watcher() const;
  std::string other_locker() const;
  asio::awaitable<std::int64_t> run(std::function<int(void* completion)> begin);
  static void on_complete(void* completion, void* user) noexcept;

  std::shared_ptr<RbdPool> pool_;
  const RbdLibrary& library_;
  rbd_image_t image_ = nullptr;
  RbdFacts facts_;
};

}  // namespace nasbackup
