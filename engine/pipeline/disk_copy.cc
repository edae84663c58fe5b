// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One disk from source to target; see disk_copy.h.
#include "engine/pipeline/disk_copy.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "engine/io/lifeline_state.h"
#include "engine/io/on_thread.h"
#include "engine/pipeline/extent_splitter.h"
#include "engine/pipeline/task_group.h"

namespace nasbackup {

/// A worker's buffer for the whole job: pages of its own, so that it is aligned and goes back to the system at the end. None
/// when its size is zero.
class DiskCopy::Buffer {
 public:
  explicit Buffer(std::uint64_t size)
      : size_(size),
        bytes_(size == 0 ? nullptr : ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (bytes_ == MAP_FAILED)
      throw Fault(FaultKind::failed, "memory: buffer of " + std::to_string(size) + " bytes: " + std::strerror(errno));
  }
  ~Buffer() {
    if (bytes_ != nullptr) ::munmap(bytes_, size_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::span<std::byte> first(std::uint64_t length) noexcept { return {static_cast<std::byte*>(bytes_), length}; }
  std::span<std::byte> whole() noexcept { return first(size_); }

 private:
  std::uint64_t size_;
  void* bytes_;
};

/// Guest data as it was read; and as streams, when it is compressed.
struct DiskCopy::Buffers {
  explicit Buffers(const DiskPipeline& pipeline)
      : guest(pipeline.item), streams(pipeline.encoder->compresses() ? pipeline.item : 0) {}
  Buffer guest;
  Buffer streams;
};

/// What is known of an item before it is its turn.
struct DiskCopy::Encoded {
  std::vector<EncodedRun> runs;               ///< that are not zero
  std::vector<digests::PieceDigest> digests;  ///< of the bytes as they were read
};

namespace {

/// Of an item that is not read.
Absent absent_as(const WorkItem& item) noexcept { return item.kind == ExtentKind::zero ? Absent::zero : Absent::parent; }

}  // namespace

DiskCopy::DiskCopy(JobLoop& job, DiskPipeline pipeline, Limiter& limiter, LifelineState* lifeline)
    : job_(job),
      pipeline_(std::move(pipeline)),
      limiter_(limiter),
      lifeline_(lifeline),
      queue_(job.executor(), job.stop(), 2 * pipeline_.workers),
      turnstile_(job.executor(), job.stop()) {}

asio::awaitable<void> DiskCopy::run() {
  layout_ = pipeline_.begin_layout();
  TaskGroup tasks(job_.executor(), [this](std::exception_ptr failure) { job_.fail(failure); });
  tasks.spawn(find_work());
  for (unsigned i = 0; i < pipeline_.workers; ++i) tasks.spawn(work());
  co_await tasks.join();
  co_await finish();
}

asio::awaitable<void> DiskCopy::find_work() {
  const std::uint64_t size = virtual_size();
  ExtentSplitter splitter(size, pipeline_.unit, pipeline_.item, pipeline_.absent_item);
  std::vector<WorkItem> items;
  for (GuestOffset at; at.value < size;) {
    const std::vector<Extent> extents = co_await pipeline_.source->extents(at, pipeline_.unit);
    for (const Extent& extent : extents) splitter.add(extent, items);
    at = extents.back().range.end();
    if (at.value >= size) splitter.finish(items);
    for (const WorkItem& item : items) co_await queue_.push(item);
    items.clear();
  }
  queue_.close();
}

// One cluster's life. Whatever waits, waits in here, and holds nothing but its own buffer meanwhile.
asio::awaitable<void> DiskCopy::work() {
  Buffers buffers(pipeline_);
  while (const auto item = co_await queue_.pop()) {
    Encoded encoded;
    if (item->kind == ExtentKind::data)
      encoded = co_await fetch(*item, buffers);
    else if (!pipeline_.proofs.empty())
      co_await prove_absent(item->range, absent_as(*item));
    WriteBatch batch, digests;
    co_await turnstile_.enter(item->sequence);
    add_in_order(*item, encoded, batch, digests);
    turnstile_.leave();
    if (!batch.empty()) co_await write(batch);
    if (!digests.empty()) co_await pipeline_.digests->write(digests);
    account(*item);
  }
}

asio::awaitable<void> DiskCopy::prove_absent(GuestRange range, Absent as) {
  auto compare = [&] {
    for (const auto& proof : pipeline_.proofs) proof->compare_absent(range, as);
  };
  co_await on_thread(job_.pool(), compare);
}

asio::awaitable<DiskCopy::Encoded> DiskCopy::fetch(const WorkItem& item, Buffers& buffers) {
  const auto bytes = guest_bytes(item, buffers);
  std::optional<KeptStreams> kept;
  if (pipeline_.streams != nullptr) kept = pipeline_.encoder->keeper(buffers.streams.whole());
  for (std::uint64_t done = 0, length = 0; done < bytes.size(); done += length) {
    length = std::min(limiter_.most_at_once(pipeline_.unit), bytes.size() - done);
    {
      const StageClock::Visit waiting(clocks().throttle);
      co_await limiter_.take(std::min(length, item.range.length - done), done != 0);
    }
    const StageClock::Visit reading(clocks().read);
    co_await read(item.range.start + done, bytes.subspan(done, length), kept);
  }
  co_return co_await encode(item, buffers, kept);
}

asio::awaitable<void> DiskCopy::read(GuestOffset from, std::span<std::byte> into, std::optional<KeptStreams>& kept) {
  return kept ? pipeline_.streams->read_with_streams(from, into, *kept) : pipeline_.source->read(from, into);
}

/// Whole clusters: what the last one has behind the end of the disk is zero.
std::span<std::byte> DiskCopy::guest_bytes(const WorkItem& item, Buffers& buffers) const {
  return buffers.guest.first(round_up(item.range.length, pipeline_.cluster));
}

/// What the last piece has behind the last cluster is zero too.
std::span<const std::byte> DiskCopy::whole_pieces(const WorkItem& item, Buffers& buffers, std::uint64_t piece) const {
  const std::uint64_t read = guest_bytes(item, buffers).size();
  const auto pieces = buffers.guest.first(round_up(read, piece));
  std::fill(pieces.begin() + static_cast<std::ptrdiff_t>(read), pieces.end(), std::byte{0});
  return pieces;
}

// The digests come first: whatever is done to the bytes from here on must not change what is known of them.
asio::awaitable<DiskCopy::Encoded> DiskCopy::encode(const WorkItem& item, Buffers& buffers,
                                                    const std::optional<KeptStreams>& kept) {
  const auto bytes = guest_bytes(item, buffers);
  Encoded encoded;
  const StageClock::Visit encoding(clocks().encode);
  auto encode_now = [&] {
    for (const auto& proof : pipeline_.proofs) proof->compare(item.range.start, whole_pieces(item, buffers, proof->piece_size()));
    if (pipeline_.digests)
      encoded.digests = pipeline_.digests->take(item.range.start, whole_pieces(item, buffers, pipeline_.digests->piece_size()));
    encoded.runs = kept ? pipeline_.encoder->encode(item.range.start, bytes, *kept)
                        : pipeline_.encoder->encode(item.range.start, bytes, buffers.streams.whole());
  };
  if (pipeline_.encoder->compresses() || !pipeline_.proofs.empty())
    co_await on_thread(job_.pool(), encode_now);
  else
    encode_now();
  co_return encoded;
}

void DiskCopy::add_in_order(const WorkItem& item, const Encoded& encoded, WriteBatch& batch, WriteBatch& digests) {
  if (item.kind == ExtentKind::data) {
    place(item, encoded.runs, batch);
    if (pipeline_.digests) pipeline_.digests->add(item.range, encoded.digests, digests);
    return;
  }
  const StageClock::Visit placing(clocks().place);
  layout_->skip(item.range, absent_as(item), batch);
  if (pipeline_.digests) pipeline_.digests->add_absent(item.range, absent_as(item), digests);
}

void DiskCopy::place(const WorkItem& item, const std::vector<EncodedRun>& runs, WriteBatch& batch) {
  const StageClock::Visit placing(clocks().place);
  GuestOffset at = item.range.start;
  std::uint64_t zero = 0;
  for (const EncodedRun& run : runs) {
    if (run.at > at) layout_->skip({at, run.at - at}, Absent::zero, batch);
    zero += run.at - at;
    layout_->store(run, batch);
    at = run.at + (run.compressed ? pipeline_.cluster : run.bytes.size());
  }
  if (at < item.range.end()) {
    layout_->skip({at, item.range.end() - at}, Absent::zero, batch);
    zero += item.range.end() - at;
  }
  counts_.zero_bytes += zero;
  counts_.data_bytes += item.range.length - zero;  // a last run may go on behind the disk's end
}

asio::awaitable<void> DiskCopy::write(WriteBatch& batch) {
  const StageClock::Visit writing(clocks().write);
  co_await pipeline_.target->apply(batch);
  if (!pipeline_.stores) co_return;
  for (const FileWrite& run : batch.writes()) {
    counts_.stored_bytes += run.length;
    if (lifeline_ != nullptr) lifeline_->stored_bytes += run.length;
  }
}

// Whatever points at something is written behind it: tables after data, and the header, which makes a file an image, when all
// else is on stable storage.
asio::awaitable<void> DiskCopy::finish() {
  co_await pipeline_.source->confirm();
  WriteBatch tables;
  layout_->write_tables(tables);
  co_await write(tables);
  WriteBatch header;
  layout_->write_header(header);
  const StageClock::Visit flushing(clocks().flush);
  if (!header.empty()) {
    co_await pipeline_.target->flush();
    co_await pipeline_.target->apply(header);
  }
  counts_.stored_bytes = co_await pipeline_.target->close(layout_->file_size());
  if (pipeline_.digests) co_await pipeline_.digests->finish();
  layout_.reset();
}

void DiskCopy::account(const WorkItem& item) {
  const bool data = item.kind == ExtentKind::data;
  if (data) counts_.read_bytes += item.range.length;
  if (item.kind == ExtentKind::zero) counts_.zero_bytes += item.range.length;
  if (item.kind == ExtentKind::parent) counts_.parent_bytes += item.range.length;
  if (lifeline_ == nullptr) return;
  lifeline_->done_bytes += item.range.length;
  if (data) lifeline_->read_bytes += item.range.length;
}

}  // namespace nasbackup
