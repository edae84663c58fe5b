// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rbd_storage.h.
#include "engine/io/rbd_storage.h"

#include "engine/io/location.h"
#include "engine/io/on_thread.h"
#include "engine/io/rbd_source.h"
#include "engine/io/rbd_target.h"

namespace nasbackup {

namespace {

/// Behind the name of an image that is being written, until it is whole.
constexpr char kUnfinished[] = ".nasbackup-unfinished";

class TargetImage final : public RbdTargetImage {
 public:
  TargetImage(RbdLocation location, bool replace, const RbdAccess& access)
      : pool_(std::make_shared<RbdPool>(location, access, FaultKind::failed)), image_(location.image) {
    const bool exists = pool_->has_image(image_);
    if (exists && !replace) throw Fault(FaultKind::failed, pool_->name() + ": exists; write --force to write over it");
    if (!exists) {
      unfinished_ = image_ + kUnfinished;
      clear_away();
      location.image = unfinished_;
    }
    location_ = to_string(location);
  }

  // The run has failed, and says why: whatever goes wrong in here is the smaller matter.
  ~TargetImage() override {
    if (unfinished_.empty()) return;
    try {
      clear_away();
    } catch (const Fault&) {
    }
  }

  const std::string& location() const noexcept override { return location_; }
  bool is_new() const noexcept override { return !unfinished_.empty(); }

  void publish() override {
    if (unfinished_.empty()) return;
    pool_->rename_image(unfinished_, image_);
    unfinished_.clear();
  }

 private:
  /// What a run that died has left is nobody's any more; one that lives is seen, because it has the image open. One that died
  /// while it made the image may have left a part that cannot be opened.
  void clear_away() {
    if (pool_->has_image(unfinished_)) refuse_image_in_use(RbdImage(pool_, unfinished_, "", RbdImage::Use::reading));
    pool_->remove_image(unfinished_);
  }

  std::shared_ptr<RbdPool> pool_;
  std::string image_;
  std::string unfinished_;  // empty: written in place, or published
  std::string location_;
};

RbdLocation read_target_location(const std::string& location) {
  RbdLocation read = read_rbd_location(location);
  if (!read.snapshot.empty())
    throw Fault(FaultKind::usage, location_for_people(location) + ": is a snapshot, which nobody can write to");
  return read;
}

}  // namespace

asio::awaitable<std::unique_ptr<BlockSource>> open_rbd_source(RbdThreads threads, std::string location, RbdAccess access,
                                                              bool shared) {
  std::unique_ptr<BlockSource> source;
  auto open = [&] { source = std::make_unique<RbdSource>(threads, read_rbd_location(location), access, shared); };
  co_await on_thread(threads.pool, open);
  co_return source;
}

asio::awaitable<std::unique_ptr<BlockTarget>> open_rbd_target(RbdThreads threads, std::string location, RbdAccess access,
                                                              std::uint64_t size, bool create) {
  std::unique_ptr<BlockTarget> target;
  auto open = [&] { target = std::make_unique<RbdTarget>(threads, read_target_location(location), access, size, create); };
  co_await on_thread(threads.pool, open);
  co_return target;
}

std::unique_ptr<RbdTargetImage> begin_rbd_target(const std::string& location, bool replace, RbdAccess access) {
  return std::make_unique<TargetImage>(read_target_location(location), replace, access);
}

}  // namespace nasbackup
