// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One disk from source to target; see disk_copy.h.
#include "engine/pipeline/disk_copy.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "engine/io/lifeline_state.h"
#include "engine/pipeline/extent_splitter.h"
#include "engine/pipeline/task_group.h"

namespace nasbackup {

/// A worker's buffer for the whole job: pages of its own, so that it is aligned and goes back to the system at the end.
class DiskCopy::Buffer {
 public:
  explicit Buffer(std::uint64_t size)
      : size_(size), bytes_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (bytes_ == MAP_FAILED)
      throw Fault(FaultKind::failed, "memory: buffer of " + std::to_string(size) + " bytes: " + std::strerror(errno));
  }
  ~Buffer() { ::munmap(bytes_, size_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::span<std::byte> first(std::uint64_t length) noexcept { return {static_cast<std::byte*>(bytes_), length}; }

 private:
  std::uint64_t size_;
  void* bytes_;
};

DiskCopy::DiskCopy(JobLoop& job, DiskPipeline pipeline, Limiter& limiter, LifelineState* lifeline)
    : job_(job),
      pipeline_(std::move(pipeline)),
      limiter_(limiter),
      lifeline_(lifeline),
      queue_(job.executor(), job.stop(), 2 * pipeline_.workers),
      turnstile_(job.executor(), job.stop()) {}

asio::awaitable<void> DiskCopy::run() {
  TaskGroup tasks(job_.executor(), [this](std::exception_ptr failure) { job_.fail(failure); });
  tasks.spawn(find_work());
  for (unsigned i = 0; i < pipeline_.workers; ++i) tasks.spawn(work());
  co_await tasks.join();
  co_await finish();
}

asio::awaitable<void> DiskCopy::find_work() {
  const std::uint64_t size = virtual_size();
  ExtentSplitter splitter(size, pipeline_.unit, pipeline_.item);
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
  Buffer buffer(pipeline_.item);
  while (const auto item = co_await queue_.pop()) {
    std::vector<EncodedRun> runs;
    if (item->kind == ExtentKind::data) runs = co_await fetch(*item, buffer);
    WriteBatch batch;
    co_await turnstile_.enter(item->sequence);
    place(*item, runs, batch);
    turnstile_.leave();
    if (!batch.empty()) co_await write(batch);
    account(*item);
  }
}

asio::awaitable<std::vector<EncodedRun>> DiskCopy::fetch(const WorkItem& item, Buffer& buffer) {
  co_await limiter_.take(item.range.length);
  // Whole clusters: what the last one has behind the end of the disk is zero.
  const auto bytes = buffer.first(round_up(item.range.length, pipeline_.cluster));
  {
    const StageClock::Visit reading(counts_.read);
    co_await pipeline_.source->read(item.range.start, bytes);
  }
  const StageClock::Visit encoding(counts_.encode);
  co_return encode(item.range.start, bytes, pipeline_.cluster);
}

void DiskCopy::place(const WorkItem& item, const std::vector<EncodedRun>& runs, WriteBatch& batch) {
  GuestOffset at = item.range.start;
  for (const EncodedRun& run : runs) {
    if (run.at > at) pipeline_.layout->skip({at, run.at - at}, batch);
    pipeline_.layout->store(run.at, run.data, batch);
    at = run.at + run.data.size();
  }
  if (at < item.range.end()) pipeline_.layout->skip({at, item.range.end() - at}, batch);
  std::uint64_t stored = 0;
  for (const EncodedRun& run : runs) stored += run.data.size();
  counts_.zero_bytes += item.range.length - std::min(stored, item.range.length);
}

asio::awaitable<void> DiskCopy::write(const WriteBatch& batch) {
  const StageClock::Visit writing(counts_.write);
  co_await pipeline_.target->apply(batch);
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
  pipeline_.layout->write_tables(tables);
  co_await write(tables);
  WriteBatch header;
  pipeline_.layout->write_header(header);
  const StageClock::Visit flushing(counts_.flush);
  if (!header.empty()) {
    co_await pipeline_.target->flush();
    co_await pipeline_.target->apply(header);
  }
  co_await pipeline_.target->close(pipeline_.layout->file_size());
  counts_.stored_bytes = pipeline_.layout->file_size();
}

void DiskCopy::account(const WorkItem& item) {
  const bool data = item.kind == ExtentKind::data;
  if (data) counts_.data_bytes += item.range.length;
  if (lifeline_ == nullptr) return;
  lifeline_->done_bytes += item.range.length;
  if (data) lifeline_->read_bytes += item.range.length;
}

}  // namespace nasbackup
