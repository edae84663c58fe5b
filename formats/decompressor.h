// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Decodes one compressed cluster. What qemu reads is read: a deflate stream that fills the cluster and does not end, several
// zstd frames, bytes of a neighbour behind the stream (a descriptor counts whole sectors). What is read is hostile input: no
// byte is written outside the cluster, and no memory depends on it. An instance is used by one thread at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "formats/compression.h"

namespace nasbackup {

class Decompressor {
 public:
  virtual ~Decompressor() = default;

  /// Fills exactly `cluster` (of 512 bytes or more), or throws FormatError and leaves its content undefined. Returns how many
  /// bytes of `stored` the stream takes; 0 when it does not end by itself.
  virtual std::size_t decompress(std::span<const std::byte> stored, std::span<std::byte> cluster) = 0;
};

/// Throws FormatError for a codec that was not built in.
std::unique_ptr<Decompressor> make_decompressor(Codec codec);

}  // namespace nasbackup
