// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A disk in memory: for tests, and for programs that make their images themselves. Answers at once or, to show that order does
// not matter, in an order drawn from a seed.
#pragma once

#include <random>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "engine/io/block_source.h"

namespace nasbackup {

class MemorySource final : public BlockSource {
 public:
  /// `holes`: runs of zeroes are reported as such; otherwise all is data.
  MemorySource(asio::any_io_executor loop, std::vector<std::byte> disk, bool holes, unsigned depth)
      : loop_(std::move(loop)), disk_(std::move(disk)), holes_(holes), depth_(depth) {}

  /// Each read is answered after a random while.
  void shuffle_answers(std::uint32_t seed) { shuffle_.emplace_back(seed); }

  SourceTraits traits() const noexcept override { return {disk_.size(), 1, depth_}; }
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) override;
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override;
  asio::awaitable<void> confirm() override { co_return; }

 private:
  asio::any_io_executor loop_;
  std::vector<std::byte> disk_;
  bool holes_;
  unsigned depth_;
  std::vector<std::mt19937> shuffle_;  // empty: answer at once
};

}  // namespace nasbackup
