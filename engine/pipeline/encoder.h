// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What happens to guest data between reading and placing: zero clusters are found, the others are compressed if that was asked
// for. Items in any order and on any thread, several at once; what becomes of a cluster depends on that cluster alone (but for
// `auto`, whose strength follows the load).
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/io/idle_pool.h"
#include "engine/pipeline/level_control.h"
#include "formats/compressor.h"
#include "formats/encoded_run.h"
#include "formats/kept_streams.h"

namespace nasbackup {

/// What the encoder did so far; sums over all threads.
struct EncoderCounts {
  std::uint64_t compressed_clusters = 0;
  std::uint64_t compressed_bytes = 0;  ///< their streams
  std::uint64_t copied_clusters = 0;   ///< of the compressed ones: whose stream was kept and not encoded
  std::uint64_t plain_clusters = 0;    ///< stored as they are
  double cpu_seconds = 0;
};

class Encoder {
 public:
  /// `cluster` in bytes. `threads`: how many may encode at once (for `auto`).
  Encoder(std::uint64_t cluster, std::optional<Compression> compression, unsigned threads);
  ~Encoder();

  /// False: finding zeroes is all there is to do, which is cheaper than a hop to another thread.
  bool compresses() const noexcept { return compression_.has_value(); }
  /// The runs that are not zero. `bytes` begins at `at` and is whole clusters; streams go into `streams`, which is as long. Both
  /// must outlive the runs.
  std::vector<EncodedRun> encode(GuestOffset at, std::span<std::byte> bytes, std::span<std::byte> streams);
  /// The same; what was kept is not encoded again, the other streams go into the room that it has left. Only when it compresses.
  std::vector<EncodedRun> encode(GuestOffset at, std::span<std::byte> bytes, const KeptStreams& kept);
  /// For streams that need not be encoded again. Only when it compresses.
  KeptStreams keeper(std::span<std::byte> room) const noexcept { return {compression_->codec, cluster_, room}; }

  EncoderCounts counts() const noexcept;
  /// What `auto` chose, by the share of the bytes: "zlib:fast 20 %, zlib:6 80 %"; empty when it had no choice.
  std::string chosen() const;

 private:
  class Compressors;
  std::vector<EncodedRun> find_data(GuestOffset at, std::span<std::byte> bytes);
  std::vector<EncodedRun> compress_all(GuestOffset at, std::span<std::byte> bytes, const KeptStreams& kept);
  EncodedRun copied(GuestOffset at, std::span<std::byte> stream);
  void add_plain(EncodedRun run, std::vector<EncodedRun>& runs);
  std::size_t compress(Compressor& compressor, std::span<const std::byte> cluster, std::span<std::byte> into);

  std::uint64_t cluster_;
  std::optional<Compression> compression_;
  std::vector<Rung> rungs_;  // one, but for `auto`
  std::optional<LevelControl> control_;
  IdlePool<Compressors> idle_;  // as many as threads encode at once
  std::atomic<std::uint64_t> compressed_clusters_{0}, compressed_bytes_{0}, copied_clusters_{0}, plain_clusters_{0};
  std::atomic<std::int64_t> cpu_ns_{0};
};

}  // namespace nasbackup
