// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A chi-squared test of sampled bytes, and a look for repeated lines; see may_shrink.h.
#include "formats/may_shrink.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <cstring>

namespace nasbackup {

namespace {
constexpr std::size_t kWindow = 64 << 10;  // a larger cluster is looked at in pieces: one that shrinks is enough
constexpr std::size_t kLine = 64;          // bytes read at each place: what the memory delivers anyway
constexpr std::size_t kMostLines = 64;     // in a window: 4 KiB, enough to tell a saving of 1/128 from chance
constexpr std::size_t kPasses = 4;         // the first one, a quarter of the lines, is enough for most data

// Of bytes that are evenly spread, chi-squared is 255 on average and strays by 22.6. Data is in the thousands; compressed
// files with a little order left are close above 255, and patterns that count through all values far below.
constexpr double kTooEven = 150, kUneven = 380, kPlainlyUneven = 1000;

/// Where the lines of a window lie: spread evenly, at four different places of their KiB, and the same ones in every 4 KiB, so
/// that a repeated page shows. Pass p takes every fourth line from line p on.
class Lines {
 public:
  explicit Lines(std::span<const std::byte> window) noexcept
      : window_(window), count_(std::min(kMostLines, window.size() / kLine)), stride_(window.size() / count_) {}

  std::size_t count() const noexcept { return count_; }
  const std::byte* at(std::size_t i) const noexcept {
    const std::size_t shift = i % kPasses * (stride_ / kPasses) / kLine * kLine;
    assert(i * stride_ + shift + kLine <= window_.size());
    return window_.data() + i * stride_ + shift;
  }

 private:
  std::span<const std::byte> window_;
  std::size_t count_;
  std::size_t stride_;
};

/// How often each value occurs. Four tables, because neighbours that are equal would wait for each other in one.
class Histogram {
 public:
  void add_line(const std::byte* line) noexcept {
    for (std::size_t i = 0; i < kLine; i += sizeof(std::uint64_t)) {
      std::uint64_t word;
      std::memcpy(&word, line + i, sizeof word);
      for (std::size_t byte = 0; byte < sizeof word; ++byte) ++counts_[byte % 4][word >> 8 * byte & 0xff];
    }
    total_ += kLine;
  }

  double chi_squared() const noexcept {
    std::uint32_t squares = 0;  // at most (64 lines of 64 bytes)², 2^24
    for (std::size_t value = 0; value < 256; ++value) {
      const std::uint32_t n = counts_[0][value] + counts_[1][value] + counts_[2][value] + counts_[3][value];
      squares += n * n;
    }
    const double expected = total_ / 256.0;
    return (squares - total_ * expected) / expected;
  }

 private:
  std::array<std::array<std::uint16_t, 256>, 4> counts_{};
  double total_ = 0;
};

/// Do two of the lines begin with the same eight bytes? Of random ones hardly ever.
bool repeats(const Lines& lines) noexcept {
  std::array<std::uint64_t, 256> seen{};
  for (std::size_t i = 0; i < lines.count(); ++i) {
    std::uint64_t word;
    std::memcpy(&word, lines.at(i), sizeof word);
    auto& slot = seen[word * 0x9e3779b97f4a7c15u >> 56];
    if (slot == word) return true;
    slot = word;
  }
  return false;
}

bool window_may_shrink(std::span<const std::byte> window) noexcept {
  const Lines lines(window);
  Histogram histogram;
  for (std::size_t pass = 0; pass < kPasses; ++pass) {
    for (std::size_t i = pass; i < lines.count(); i += kPasses) histogram.add_line(lines.at(i));
    if (pass == 0 && histogram.chi_squared() > kPlainlyUneven) return true;
  }
  const double chi_squared = histogram.chi_squared();
  return chi_squared < kTooEven || chi_squared > kUneven || repeats(lines);
}
}  // namespace

bool may_shrink(std::span<const std::byte> cluster) noexcept {
  assert(!cluster.empty() && cluster.size() % 512 == 0);
  for (std::size_t at = 0; at < cluster.size(); at += kWindow)
    if (window_may_shrink(cluster.subspan(at, std::min(kWindow, cluster.size() - at)))) return true;
  return false;
}

}  // namespace nasbackup
