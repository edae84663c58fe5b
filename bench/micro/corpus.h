// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Clusters of real data for the micro benchmarks, in memory. Read once, before anything is measured; then only read.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace nasbackup::bench {

constexpr std::size_t kClusterSize = 64 << 10;

class Corpus {
 public:
  /// Clusters from all over `place`, none of them zero: of a directory, files that are chosen the same way each time and laid
  /// out in blocks of 4 KiB as a file system would; of a file, its own clusters (a raw disk).
  explicit Corpus(const std::string& place);

  std::size_t size() const noexcept { return bytes_.size(); }
  std::size_t clusters() const noexcept { return bytes_.size() / kClusterSize; }
  std::span<const std::byte> cluster(std::size_t i) const noexcept {
    return std::span(bytes_).subspan(i * kClusterSize, kClusterSize);
  }

 private:
  std::vector<std::byte> bytes_;
};

/// That of $NASBACKUP_CORPUS, /usr unless given.
const Corpus& corpus();
std::string corpus_place();

}  // namespace nasbackup::bench
