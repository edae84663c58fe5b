// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A raw image in a file or on a block device, read with blocking calls on the pool's threads. Holes are found by SEEK_HOLE.
// Held under QEMU's image locks for as long as the source lives.
#pragma once

#include <optional>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "engine/io/block_source.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/image_lock.h"

namespace nasbackup {

struct LifelineState;

class FileSource final : public BlockSource {
 public:
  /// `shared`: do not look at locks (as qemu-img -U). `depth`: reads worth having under way. A source may lie on a file system
  /// that hangs, too: its calls are marked on `lifeline`, which may be null. Throws Fault.
  FileSource(asio::any_io_executor pool, std::string path, bool shared, unsigned depth, LifelineState* lifeline);

  SourceTraits traits() const noexcept override { return {size_, 1, depth_}; }
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) override;
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override;
  asio::awaitable<void> confirm() override;

 private:
  void read_now(GuestOffset from, std::span<std::byte> into) const;
  std::vector<Extent> extents_now(GuestOffset from, std::uint64_t granularity) const;
  std::uint64_t seek(std::uint64_t from, int whence) const;

  asio::any_io_executor pool_;
  std::string path_;
  FileDescriptor file_;
  std::uint64_t size_ = 0;
  bool is_device_ = false;
  unsigned depth_;
  LifelineState* lifeline_;
  std::optional<ImageLock> lock_;
};

}  // namespace nasbackup
