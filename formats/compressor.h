// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Encodes one cluster at a time into what a compressed cluster descriptor points at (specification, "Compressed Clusters
// Descriptor"). An instance is used by one thread at a time, for as many clusters as come; it allocates when it is made.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

#include "formats/compression.h"

namespace nasbackup {

class Compressor {
 public:
  virtual ~Compressor() = default;

  /// The whole of `cluster` as one stream that ends: bytes written, or 0 when it does not fit into `into`. The same build on
  /// the same type of CPU writes the same bytes.
  virtual std::size_t compress(std::span<const std::byte> cluster, std::span<std::byte> into) = 0;
};

/// How large a compressed cluster may be to be kept; `into` of that size makes compress() say so. A valid one is at most
/// cluster_size - 1 bytes; and one that saves less than 1/128 costs every reader a decoding for nothing.
constexpr std::size_t most_worth_keeping(std::size_t cluster_size) noexcept {
  return cluster_size - std::max<std::size_t>(1, cluster_size / 128);
}

/// What a compressor keeps, about; of auto its strongest rung.
std::size_t compressor_bytes(const Compression& compression, std::size_t cluster_size);

/// For clusters of up to `cluster_size` bytes. `compression` is no auto, but one of its rungs. Throws FormatError for a codec
/// that was not built in.
std::unique_ptr<Compressor> make_compressor(const Compression& compression, std::size_t cluster_size);

}  // namespace nasbackup
