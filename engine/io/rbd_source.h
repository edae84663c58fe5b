// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A Ceph image as a source, as it is now or at a snapshot. Used on the loop's thread only.
#pragma once

#include <memory>
#include <string>

#include "engine/io/block_source.h"
#include "engine/io/rbd_image.h"

namespace nasbackup {

class RbdSource final : public BlockSource {
 public:
  /// Blocking. Throws Fault, also when somebody uses the image: unless `shared`, and a snapshot may be used by anybody.
  RbdSource(RbdThreads threads, const RbdLocation& location, const RbdAccess& access, bool shared);
  /// Blocking too, for as long as it takes to say good-bye.
  ~RbdSource() override;

  SourceTraits traits() const noexcept override;
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) override;
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override;
  asio::awaitable<void> confirm() override;

 private:
  std::uint64_t look_at_once() const noexcept;
  void look_again() const;

  RbdThreads threads_;
  std::string name_;  // of the image
  bool watched_;      // nobody else may use it
  std::shared_ptr<RbdPool> pool_;
  std::unique_ptr<RbdImage> image_;
};

}  // namespace nasbackup
