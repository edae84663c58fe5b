// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A disk image as a source: its layers are read with blocking calls on the pool's threads.
#pragma once

#include <memory>

#include <boost/asio/any_io_executor.hpp>

#include "engine/io/block_source.h"
#include "engine/io/image_layer.h"
#include "engine/io/stream_source.h"

namespace nasbackup {

class ImageSource final : public BlockSource, public StreamSource {
 public:
  /// `depth`: reads worth having under way.
  ImageSource(asio::any_io_executor pool, std::unique_ptr<ImageLayer> image, unsigned depth)
      : pool_(std::move(pool)), image_(std::move(image)), depth_(depth) {}

  SourceTraits traits() const noexcept override { return {image_->size(), image_->alignment(), depth_}; }
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) override;
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override;
  asio::awaitable<void> read_with_streams(GuestOffset from, std::span<std::byte> into, KeptStreams& keep) override;
  asio::awaitable<void> confirm() override;

 private:
  asio::awaitable<void> fill(GuestOffset from, std::span<std::byte> into, KeptStreams* keep);

  asio::any_io_executor pool_;
  std::unique_ptr<ImageLayer> image_;
  unsigned depth_;
};

}  // namespace nasbackup
