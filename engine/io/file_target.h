// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A file (or block device) that is written, by a thread of its own: a file system that blocks holds nothing else up. It goes
// through the page cache in the order of the batches, so that a NAS sees one sequential stream; writeback is begun on the way, so
// that only a bounded amount stays dirty, and so are flushes, so that the last one finds little to do. (Direct writes were tried:
// docs/performance.md.)
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/thread_pool.hpp>

#include "engine/io/block_target.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/image_lock.h"
#include "engine/io/writeback_stretch.h"

namespace nasbackup {

struct LifelineState;

class FileTarget final : public BlockTarget {
 public:
  /// `path` must not exist: made with mode 0600. Throws Fault. `lifeline` may be null.
  static std::unique_ptr<FileTarget> create(const std::string& path, LifelineState* lifeline);
  /// An existing block device of at least `size` bytes.
  static std::unique_ptr<FileTarget> open_device(const std::string& path, std::uint64_t size, LifelineState* lifeline);
  ~FileTarget() override;

  asio::awaitable<void> apply(WriteBatch& batch) override;
  asio::awaitable<void> flush() override;
  asio::awaitable<std::uint64_t> close(std::uint64_t size) override;

 private:
  FileTarget(std::string path, FileDescriptor file, bool is_device, LifelineState* lifeline);
  void write_batch(const WriteBatch& batch);
  void write_pieces(const FileWrite& write);
  void write_back(std::uint64_t offset, std::uint64_t length);
  void flush_ahead(std::uint64_t length);
  void await_flush_ahead();
  std::chrono::nanoseconds sync_data();
  void zero_range(const FileRange& range);
  void sync();
  void close_now(std::uint64_t size);

  std::string path_;
  FileDescriptor file_;
  bool is_device_;
  LifelineState* lifeline_;
  std::optional<ImageLock> lock_;
  WritebackStretch stretch_;
  std::uint64_t written_bytes_ = 0;  // whose writeback is not yet begun; they lie between these two
  std::uint64_t written_from_ = 0;
  std::uint64_t written_to_ = 0;
  std::uint64_t flushing_from_ = 0;  // the stretch whose writeback was begun last
  std::uint64_t flushing_to_ = 0;
  std::uint64_t unflushed_ = 0;                            // written since the last flush was begun
  std::future<std::chrono::nanoseconds> flush_under_way_;  // of its own thread; all else is touched by `thread_` alone
  asio::thread_pool thread_{1};
};

}  // namespace nasbackup
