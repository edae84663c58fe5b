// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A sample of a source; see sample_source.h.
#include "engine/io/sample_source.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>

#include "engine/io/lifeline_state.h"

namespace nasbackup {

namespace {

/// Long enough that a disk which seeks reads on for a while.
constexpr std::uint64_t kLongestPiece = 8u << 20, kShortestPiece = 1u << 20;
constexpr std::uint64_t kPieces = 16;

/// A random sample has at least so many pieces, where that leaves each of them a unit of the grid, and none longer than this.
constexpr std::uint64_t kLeastStretches = 256, kLongestRandomPiece = 1u << 20;

/// A disk that is more finely broken up is taken as a whole behind the last of these.
constexpr std::size_t kMostRanges = 1u << 20;

/// Handed out at once: little, so that the time is looked at often.
constexpr std::uint64_t kStep = 1u << 20;

std::uint64_t piece_of(std::uint64_t bytes) noexcept {
  return std::clamp(round_down(bytes / kPieces, kShortestPiece), kShortestPiece, kLongestPiece);
}

/// About `bytes` of `data`, `skip` bytes into it, appended to `out`; from a multiple of `grid` on where there is data, so that
/// few work items are cut.
void cut(const std::vector<GuestRange>& data, std::uint64_t skip, std::uint64_t bytes, std::uint64_t grid,
         std::vector<GuestRange>& out) {
  for (const GuestRange& range : data) {
    if (skip >= range.length) {
      skip -= range.length;
      continue;
    }
    const std::uint64_t length = std::min(bytes, range.length - skip);
    const std::uint64_t least = std::max(range.start.value, out.empty() ? 0 : out.back().end().value);
    const std::uint64_t start = std::max(least, round_down(range.start.value + skip, grid));
    const std::uint64_t end = std::min(range.end().value, start + length);
    if (start < end) out.push_back({GuestOffset(start), end - start});
    bytes -= length;
    skip = 0;
    if (bytes == 0) return;
  }
}

std::uint64_t below(std::uint64_t bound, crypto::RandomSource& random) {
  std::array<std::byte, sizeof(std::uint64_t)> bytes;
  random.fill(bytes);
  return std::bit_cast<std::uint64_t>(bytes) % bound;  // what that prefers is nothing against 2^64
}

/// Units [first, end) of what `data` comes to when it is laid end to end, appended to `out`. `at` and `passed`: the range where
/// the last call ended, and the units before it.
void append_units(const std::vector<GuestRange>& data, std::uint64_t grid, std::uint64_t first, std::uint64_t end,
                  std::size_t& at, std::uint64_t& passed, std::vector<GuestRange>& out) {
  for (; at < data.size() && first < end; ++at) {
    const GuestRange& range = data[at];
    const std::uint64_t units = div_round_up(range.length, grid);
    if (first < passed + units) {
      const std::uint64_t until = std::min(end, passed + units);
      const GuestOffset start = range.start + (first - passed) * grid;
      const GuestOffset stop = std::min(range.end(), range.start + (until - passed) * grid);
      if (!out.empty() && out.back().end() == start)
        out.back().length += stop - start;
      else
        out.push_back({start, stop - start});
      first = until;
      if (first == end) return;
    }
    passed += units;
  }
}

}  // namespace

std::vector<GuestRange> choose_at_random(const std::vector<GuestRange>& data, double share, std::uint64_t grid,
                                         crypto::RandomSource& random) {
  std::uint64_t all = 0;
  for (const GuestRange& range : data) all += div_round_up(range.length, grid);
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(all)));
  if (wanted >= all) return data;
  const std::uint64_t piece =
      std::clamp<std::uint64_t>(wanted / kLeastStretches, 1, std::max<std::uint64_t>(1, kLongestRandomPiece / grid));
  const std::uint64_t stretches = std::max<std::uint64_t>(1, wanted / piece);
  std::vector<GuestRange> sample;
  std::size_t at = 0;
  std::uint64_t passed = 0;
  for (std::uint64_t i = 0; i < stretches; ++i) {
    // No product of large numbers: neither fits the other's size.
    const std::uint64_t begin = all / stretches * i + std::min(i, all % stretches),
                        length = all / stretches + (i < all % stretches);
    const std::uint64_t taken = std::min(piece, length);
    const std::uint64_t first = begin + below(length - taken + 1, random);
    append_units(data, grid, first, first + taken, at, passed, sample);
  }
  return sample;
}

std::vector<GuestRange> on_grid(const std::vector<GuestRange>& ranges, std::uint64_t grid, std::uint64_t size) {
  std::vector<GuestRange> wide;
  for (const GuestRange& range : ranges) {
    const std::uint64_t start = round_down(range.start.value, grid), end = std::min(size, round_up(range.end().value, grid));
    if (!wide.empty() && start <= wide.back().end().value)
      wide.back().length = std::max(end, wide.back().end().value) - wide.back().start.value;
    else
      wide.push_back({GuestOffset(start), end - start});
  }
  return wide;
}

std::vector<GuestRange> without(const std::vector<GuestRange>& all, const std::vector<GuestRange>& part) {
  std::vector<GuestRange> rest;
  auto taken = part.begin();
  for (const GuestRange& range : all) {
    GuestOffset at = range.start;
    while (taken != part.end() && taken->end() <= at) ++taken;
    for (auto hole = taken; hole != part.end() && hole->start < range.end(); ++hole) {
      if (hole->start > at) rest.push_back({at, hole->start - at});
      at = std::max(at, hole->end());
    }
    if (at < range.end()) rest.push_back({at, range.end() - at});
  }
  return rest;
}

asio::awaitable<std::vector<GuestRange>> ranges_but_for(BlockSource& source, ExtentKind kind, std::uint64_t grid) {
  std::vector<GuestRange> found;
  const std::uint64_t size = source.traits().size;
  for (GuestOffset at; at.value < size;) {
    const std::vector<Extent> extents = co_await source.extents(at, grid);
    for (const Extent& extent : extents)
      if (extent.kind != kind) found.push_back(extent.range);
    at = extents.back().range.end();
    if (found.size() < kMostRanges) continue;
    found.push_back({at, size - at.value});
    break;
  }
  co_return on_grid(found, grid, size);
}

std::uint64_t bytes_of(const std::vector<GuestRange>& ranges) noexcept {
  std::uint64_t sum = 0;
  for (const GuestRange& range : ranges) sum += range.length;
  return sum;
}

std::vector<GuestRange> choose_sample(const std::vector<GuestRange>& data, std::uint64_t bytes) {
  const std::uint64_t all = bytes_of(data);
  if (all <= bytes) return data;
  const std::uint64_t piece = piece_of(bytes);
  const std::uint64_t pieces = std::max<std::uint64_t>(1, bytes / piece);
  std::vector<GuestRange> sample;
  for (std::uint64_t i = 0; i < pieces; ++i) cut(data, all / pieces * i, std::min(piece, bytes), piece, sample);
  return sample;
}

SampleSource::SampleSource(std::unique_ptr<BlockSource> inner, std::shared_ptr<const Sample> sample)
    : inner_(std::move(inner)), sample_(std::move(sample)) {}

bool SampleSource::time_is_up() noexcept {
  const std::int64_t now = monotonic_ns();
  if (began_ns_ == 0) began_ns_ = now;
  return now - began_ns_ > sample_->time.count();
}

// Asked no further ahead than the work queue is long, so that a sample for which there is no time any more ends soon.
asio::awaitable<std::vector<Extent>> SampleSource::extents(GuestOffset from, std::uint64_t granularity) {
  const std::uint64_t size = traits().size;
  assert(from.value < size);
  const auto& ranges = sample_->ranges;
  while (next_ < ranges.size() && ranges[next_].end() <= from) ++next_;
  if (next_ == ranges.size() || time_is_up()) co_return std::vector<Extent>{{{from, size - from.value}, ExtentKind::zero}};
  const GuestRange& range = ranges[next_];
  if (range.start > from) co_return std::vector<Extent>{{{from, range.start - from}, ExtentKind::zero}};
  const std::uint64_t step = std::max(kStep, granularity);
  co_return std::vector<Extent>{{{from, std::min<std::uint64_t>(step, range.end() - from)}, ExtentKind::data}};
}

asio::awaitable<void> SampleSource::read(GuestOffset from, std::span<std::byte> into) { co_await inner_->read(from, into); }

asio::awaitable<void> SampleSource::confirm() { co_await inner_->confirm(); }

}  // namespace nasbackup
