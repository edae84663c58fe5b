// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The digests of one disk (docs/formats/digests.md): taken from the bytes as they were read, before any buffer is handed on, put
// in guest order at the turnstile, and written into a file of their own as segments become full. take() may be called from any
// thread, all else on the loop's alone.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/io/block_target.h"
#include "engine/io/image_key.h"
#include "formats/digest_writer.h"
#include "formats/units.h"

namespace nasbackup {

/// What a digest file came to.
struct DigestSummary {
  digests::Kind kind = digests::Kind::xxh3_128;
  std::uint64_t piece_size = 0;
  std::uint64_t file_size = 0;
  digests::Root root{};
};

class DiskDigests {
 public:
  /// GMAC with `key`, XXH3 when that is null. Throws FormatError for a disk that the format cannot hold.
  DiskDigests(std::uint64_t piece_size, std::uint64_t virtual_size, const ImageKey* key, std::unique_ptr<BlockTarget> target);

  std::uint64_t piece_size() const noexcept { return digester_.piece_size(); }
  /// Of whole pieces that begin at `at`.
  std::vector<digests::PieceDigest> take(GuestOffset at, std::span<const std::byte> pieces);
  /// The next of the disk, which begins at a piece: read, with its digests, or not. What is to be written now is added to `out`.
  void add(GuestRange range, const std::vector<digests::PieceDigest>& taken, WriteBatch& out);
  void add_absent(GuestRange range, Absent as, WriteBatch& out);
  asio::awaitable<void> write(WriteBatch& batch);
  /// After the last: on return the file is whole and on stable storage.
  asio::awaitable<void> finish();

  /// Once finish() is over.
  const DigestSummary& summary() const noexcept { return summary_; }
  /// All threads.
  double cpu_seconds() const noexcept { return static_cast<double>(cpu_ns_) / 1e9; }

 private:
  digests::PieceDigester digester_;
  digests::Writer writer_;
  std::unique_ptr<BlockTarget> target_;
  DigestSummary summary_;
  std::atomic<std::int64_t> cpu_ns_{0};
};

}  // namespace nasbackup
