// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A filter: the first bytes of a source that is longer, as a device or an export is that holds a disk smaller than itself. Used
// on the loop's thread only, as the source below it.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>

#include "engine/io/block_source.h"

namespace nasbackup {

class BoundedSource final : public BlockSource {
 public:
  /// Shows `size` bytes, or what there is.
  BoundedSource(std::unique_ptr<BlockSource> inner, std::uint64_t size)
      : inner_(std::move(inner)), size_(std::min(size, inner_->traits().size)) {}

  SourceTraits traits() const noexcept override {
    SourceTraits traits = inner_->traits();
    traits.size = size_;
    return traits;
  }
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) override {
    std::vector<Extent> found = co_await inner_->extents(from, granularity);
    while (found.back().range.start.value >= size_) found.pop_back();
    GuestRange& last = found.back().range;
    last.length = std::min(last.length, size_ - last.start.value);
    co_return found;
  }
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override {
    co_await inner_->read(from, into);
    const std::uint64_t inside = std::min<std::uint64_t>(into.size(), size_ - std::min(size_, from.value));
    std::memset(into.data() + inside, 0, into.size() - inside);
  }
  asio::awaitable<void> confirm() override { return inner_->confirm(); }

 private:
  std::unique_ptr<BlockSource> inner_;
  std::uint64_t size_;
};

}  // namespace nasbackup
