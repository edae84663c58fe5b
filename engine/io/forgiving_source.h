// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A source that goes on where another finds damage: whoever looks for all of it must not stop at the first. What cannot be read
// is told of, and reads as zero. Used on the loop's thread only, as the source below it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/io/block_source.h"

namespace nasbackup {

class ForgivingSource final : public BlockSource {
 public:
  /// Told of a range that cannot be read, and why; only of Fault(damaged): all else is thrown on.
  using OnDamage = std::function<void(GuestRange, const std::string&)>;

  /// `step`: bytes, a multiple of the source's alignment, which are given up together.
  ForgivingSource(std::unique_ptr<BlockSource> inner, std::uint64_t step, OnDamage on_damage)
      : inner_(std::move(inner)), step_(step), on_damage_(std::move(on_damage)) {}

  SourceTraits traits() const noexcept override { return inner_->traits(); }
  /// What cannot be told is called data.
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) override;
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override;
  asio::awaitable<void> confirm() override { return inner_->confirm(); }

 private:
  asio::awaitable<void> read_step(GuestOffset from, std::span<std::byte> into);

  std::unique_ptr<BlockSource> inner_;
  std::uint64_t step_;
  OnDamage on_damage_;
};

}  // namespace nasbackup
