// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A filter: of the source below it only a sample is data, all else is called zero, so that a measurement goes through the whole
// pipeline and still ends soon. Used on the loop's thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "crypto/random_source.h"
#include "engine/io/block_source.h"

namespace nasbackup {

/// What is read: at most these bytes, and for at most so long.
struct Sample {
  std::vector<GuestRange> ranges;  ///< rising, apart from each other
  std::chrono::nanoseconds time{0};
};

/// About `bytes` of `data`, which is rising, in pieces that are evenly spread over it; all of it when there is no more.
std::vector<GuestRange> choose_sample(const std::vector<GuestRange>& data, std::uint64_t bytes);

/// A random sample: about `share` (0 to 1) of `data`, which is rising, in pieces that lie one in each of as many equal stretches
/// of it. Both begin and end at multiples of `grid`, or at the end of the last of `data`.
std::vector<GuestRange> choose_at_random(const std::vector<GuestRange>& data, double share, std::uint64_t grid,
                                         crypto::RandomSource& random);

/// `ranges` widened to multiples of `grid` within `size`, those that touch made one.
std::vector<GuestRange> on_grid(const std::vector<GuestRange>& ranges, std::uint64_t grid, std::uint64_t size);

/// What of `all` is not in `part`; both are rising.
std::vector<GuestRange> without(const std::vector<GuestRange>& all, const std::vector<GuestRange>& part);

/// Where the source is anything but that, on the grid. A disk that is very finely broken up is from some place on taken as a
/// whole.
asio::awaitable<std::vector<GuestRange>> ranges_but_for(BlockSource& source, ExtentKind kind, std::uint64_t grid);

std::uint64_t bytes_of(const std::vector<GuestRange>& ranges) noexcept;

class SampleSource final : public BlockSource {
 public:
  /// The time begins with the first question about extents.
  SampleSource(std::unique_ptr<BlockSource> inner, std::shared_ptr<const Sample> sample);

  SourceTraits traits() const noexcept override { return inner_->traits(); }
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) override;
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override;
  asio::awaitable<void> confirm() override;

 private:
  bool time_is_up() noexcept;

  std::unique_ptr<BlockSource> inner_;
  std::shared_ptr<const Sample> sample_;
  std::size_t next_ = 0;       // the first range that does not end before what was asked last
  std::int64_t began_ns_ = 0;  // 0: not yet
};

}  // namespace nasbackup
