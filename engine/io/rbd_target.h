// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A Ceph image that is written (raw disks only). Used on the loop's thread only.
#pragma once

#include <memory>
#include <string>

#include "engine/io/block_target.h"
#include "engine/io/rbd_image.h"

namespace nasbackup {

class RbdTarget final : public BlockTarget {
 public:
  /// Blocking. Throws Fault, also when somebody uses the image.
  RbdTarget(RbdThreads threads, const RbdLocation& location, const RbdAccess& access, std::uint64_t size, bool create);
  ~RbdTarget() override;

  asio::awaitable<void> apply(WriteBatch& batch) override;
  asio::awaitable<void> flush() override;
  asio::awaitable<std::uint64_t> close(std::uint64_t size) override;

 private:
  RbdThreads threads_;
  std::unique_ptr<RbdImage> image_;
};

/// Throws Fault(locked) when somebody else uses the image.
void refuse_image_in_use(const RbdImage& image);

}  // namespace nasbackup
