// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rbd_target.h.
#include "engine/io/rbd_target.h"

#include <algorithm>

#include "engine/io/on_thread.h"

namespace nasbackup {

namespace {

std::unique_ptr<RbdImage> open_image(const RbdLocation& location, const RbdAccess& access, std::uint64_t size, bool create) {
  const auto pool = std::make_shared<RbdPool>(location, access, FaultKind::failed);
  if (create) pool->create_image(location.image, size);
  // Before we are seen ourselves, and again once whoever comes now can see us.
  if (!create) refuse_image_in_use(RbdImage(pool, location.image, "", RbdImage::Use::reading));
  auto image = std::make_unique<RbdImage>(pool, location.image, "", RbdImage::Use::writing);
  refuse_image_in_use(*image);
  if (image->facts().size < size)
    throw Fault(FaultKind::target_full, pool->name() + ": image of " + std::to_string(image->facts().size) + " bytes, " +
                                            std::to_string(size) + " are needed");
  return image;
}

}  // namespace

void refuse_image_in_use(const RbdImage& image) {
  if (const std::string user = image.other_user(); !user.empty())
    throw Fault(FaultKind::locked, image.pool().name() + ": in use: " + user);
}

RbdTarget::RbdTarget(RbdThreads threads, const RbdLocation& location, const RbdAccess& access, std::uint64_t size, bool create)
    : threads_(threads), image_(open_image(location, access, size, create)) {}

RbdTarget::~RbdTarget() = default;

asio::awaitable<void> RbdTarget::apply(WriteBatch& batch) {
  constexpr std::uint64_t kZeroesAtOnce = 64u << 20;  // each call short enough for the cluster's time-out
  for (const FileRange& range : batch.zeroes())
    for (std::uint64_t done = 0, length = 0; done < range.length; done += length) {
      length = std::min(kZeroesAtOnce, range.length - done);
      co_await image_->zero(range.offset.value + done, length);
    }
  for (const FileWrite& run : batch.writes()) {
    std::uint64_t at = run.offset.value;
    for (const FilePiece& piece : run.pieces) {
      co_await image_->write(at, piece.bytes);
      at += piece.bytes.size();
    }
  }
}

asio::awaitable<void> RbdTarget::flush() { co_await image_->flush(); }

asio::awaitable<std::uint64_t> RbdTarget::close(std::uint64_t size) {
  co_await image_->flush();
  auto close_now = [&] { image_.reset(); };
  co_await on_thread(threads_.pool, close_now);
  co_return size;
}

}  // namespace nasbackup
