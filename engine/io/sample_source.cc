// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A sample of a source; see sample_source.h.
#include "engine/io/sample_source.h"

#include <algorithm>
#include <cassert>

#include "engine/io/lifeline_state.h"

namespace nasbackup {

namespace {

/// Long enough that a disk which seeks reads on for a while.
constexpr std::uint64_t kLongestPiece = 8u << 20, kShortestPiece = 1u << 20;
constexpr std::uint64_t kPieces = 16;

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

}  // namespace

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
