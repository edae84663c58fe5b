// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One disk from source to target: extents -> work queue -> workers -> turnstile -> target. This is the place to follow one
// cluster's life (ARCHITECTURE.md): each worker's loop tells it in order. Used on the loop's thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/block_source.h"
#include "engine/io/block_target.h"
#include "engine/io/limiter.h"
#include "engine/io/luks_target.h"
#include "engine/io/stream_source.h"
#include "engine/pipeline/disk_digests.h"
#include "engine/pipeline/disk_proof.h"
#include "engine/pipeline/encoder.h"
#include "engine/pipeline/extent_splitter.h"
#include "engine/pipeline/job_loop.h"
#include "engine/io/stage_clock.h"
#include "engine/pipeline/turnstile.h"
#include "engine/pipeline/work_queue.h"
#include "formats/image_layout.h"

namespace nasbackup {

struct LifelineState;

/// How long each stage was busy, shared by the nodes that are one.
struct StageClocks {
  StageClock throttle, read, encode, place, encrypt, write, flush;
};

/// The nodes of one disk's pipeline, stacked by build_pipeline.
struct DiskPipeline {
  std::unique_ptr<StageClocks> clocks = std::make_unique<StageClocks>();
  std::unique_ptr<BlockSource> source;
  StreamSource* streams = nullptr;  ///< `source` as one whose streams are kept and not encoded again; null: all is encoded
  std::unique_ptr<Encoder> encoder;
  std::function<std::unique_ptr<ImageLayout>()> begin_layout;  ///< its tables take memory: only while the disk is copied
  std::unique_ptr<BlockTarget> target;
  std::unique_ptr<DiskDigests> digests;            ///< null: none are taken
  std::vector<std::shared_ptr<DiskProof>> proofs;  ///< what is read is compared with
  const LuksTarget* encryption = nullptr;          ///< the node of `target` that encrypts, if any: for the report
  std::uint64_t cluster = 0;                       ///< bytes: the unit in which zeroes are found and data is stored
  std::uint64_t unit = 0;  ///< bytes: reads are whole units; a multiple of `cluster`, and of a digest's piece
  std::uint64_t item = 0;  ///< bytes of one worker's buffer, a multiple of `unit`
  std::uint64_t absent_item = ExtentSplitter::kNoBound;  ///< bytes of what is not read that one worker skips, or writes, at once
  unsigned workers = 1;
  unsigned library_copies = 0;     ///< of a worker's bytes, which librbd holds while they are under way
  bool stores = true;              ///< false: it is only read, and nothing counts as stored
  std::uint64_t memory = 0;        ///< bytes that the copy holds at most, while it runs
  std::vector<std::string> notes;  ///< on the source, for the user, a line each
};

/// What became of the disk so far. Bytes of guest data, but for `stored_bytes`: each is data, zero or the parent's.
struct DiskCounts {
  std::uint64_t data_bytes = 0;    ///< that was stored
  std::uint64_t zero_bytes = 0;    ///< known to be zero, or found so when they were read
  std::uint64_t parent_bytes = 0;  ///< left to the parent
  std::uint64_t read_bytes = 0;    ///< from the source, zeroes that were found in it included
  std::uint64_t stored_bytes = 0;  ///< file size
};

class DiskCopy {
 public:
  /// All references outlive the copy. `lifeline` may be null.
  DiskCopy(JobLoop& job, DiskPipeline pipeline, Limiter& limiter, LifelineState* lifeline);

  /// Copies the disk and finishes the image: on return it is complete and on stable storage. Throws Fault or FormatError.
  asio::awaitable<void> run();

  const std::vector<std::string>& notes() const noexcept { return pipeline_.notes; }
  const DiskCounts& counts() const noexcept { return counts_; }
  StageClocks& clocks() const noexcept { return *pipeline_.clocks; }
  double encrypting_cpu_seconds() const noexcept {
    return pipeline_.encryption == nullptr ? 0 : pipeline_.encryption->cpu_seconds();
  }
  const Encoder& encoder() const noexcept { return *pipeline_.encoder; }
  /// Null: none were taken.
  const DiskDigests* digests() const noexcept { return pipeline_.digests.get(); }
  /// Bytes that run() holds at most.
  std::uint64_t memory() const noexcept { return pipeline_.memory; }
  std::uint64_t virtual_size() const noexcept { return pipeline_.source->traits().size; }

 private:
  class Buffer;
  struct Buffers;
  struct Encoded;
  asio::awaitable<void> find_work();
  asio::awaitable<void> work();
  asio::awaitable<Encoded> fetch(const WorkItem& item, Buffers& buffers);
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into, std::optional<KeptStreams>& kept);
  asio::awaitable<void> prove_absent(GuestRange range, Absent as);
  std::span<std::byte> guest_bytes(const WorkItem& item, Buffers& buffers) const;
  std::span<const std::byte> whole_pieces(const WorkItem& item, Buffers& buffers, std::uint64_t piece) const;
  asio::awaitable<Encoded> encode(const WorkItem& item, Buffers& buffers, const std::optional<KeptStreams>& kept);
  void add_in_order(const WorkItem& item, const Encoded& encoded, WriteBatch& batch, WriteBatch& digests);
  void place(const WorkItem& item, const std::vector<EncodedRun>& runs, WriteBatch& batch);
  asio::awaitable<void> write(WriteBatch& batch);
  asio::awaitable<void> finish();
  void account(const WorkItem& item);

  JobLoop& job_;
  DiskPipeline pipeline_;
  std::unique_ptr<ImageLayout> layout_;
  Limiter& limiter_;
  LifelineState* lifeline_;
  WorkQueue queue_;
  Turnstile turnstile_;
  DiskCounts counts_;
};

}  // namespace nasbackup
