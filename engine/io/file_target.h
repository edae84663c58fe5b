// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A file (or block device) that is written, on threads of its own: a file system that blocks holds nothing else up.
//
// Where the kernel says how (STATX_DIOALIGN: local file systems), data goes to the disk directly: no copy into the host's page
// cache, nothing pushed out of it, and a few writes under way at once. Everywhere else (NFS, CIFS, tmpfs), and for pieces that
// are not aligned, writes go through the page cache, by one thread in the order of the batches, so that a NAS sees one sequential
// stream; writeback is begun on the way and only a bounded amount stays dirty, so that the last fsync finds little to do.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <boost/asio/thread_pool.hpp>

#include "engine/io/block_target.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/image_lock.h"

namespace nasbackup {

struct LifelineState;

class FileTarget final : public BlockTarget {
 public:
  /// `path` must not exist: made with mode 0600. `grows`: written from front to back without gaps, so that room may be taken
  /// ahead. Throws Fault. `lifeline` may be null.
  static std::unique_ptr<FileTarget> create(const std::string& path, bool grows, LifelineState* lifeline);
  /// An existing block device of at least `size` bytes.
  static std::unique_ptr<FileTarget> open_device(const std::string& path, std::uint64_t size, LifelineState* lifeline);
  ~FileTarget() override;

  asio::awaitable<void> apply(WriteBatch& batch) override;
  asio::awaitable<void> flush() override;
  asio::awaitable<std::uint64_t> close(std::uint64_t size) override;

 private:
  struct Means {
    FileDescriptor file;
    FileDescriptor direct;  ///< the same file with O_DIRECT; none: only through the page cache
    bool is_device = false;
    bool grows = false;
  };
  FileTarget(std::string path, Means means, LifelineState* lifeline);
  static FileDescriptor open_direct(const std::string& path, int file, LifelineState* lifeline);
  void write_batch(const WriteBatch& batch);
  void flush_along(std::uint64_t length);
  void take_room(std::uint64_t end);
  void write_pieces(const FileDescriptor& file, const FileWrite& write);
  void write_back(std::uint64_t offset, std::uint64_t length);
  void zero_range(const FileRange& range);
  void sync();
  void close_now(std::uint64_t size);

  std::string path_;
  Means means_;
  LifelineState* lifeline_;
  std::optional<ImageLock> lock_;
  std::uint64_t written_bytes_ = 0;  // whose writeback is not yet begun; they lie between these two
  std::uint64_t written_from_ = 0;
  std::uint64_t written_to_ = 0;
  std::uint64_t flushing_from_ = 0;  // the stretch whose writeback was begun last
  std::uint64_t flushing_to_ = 0;
  std::atomic<unsigned> under_way_ = 0;             // batches; of no meaning once one has failed
  std::atomic<std::uint64_t> unflushed_bytes_ = 0;  // of direct writes
  std::mutex room_mutex_;
  std::uint64_t room_to_ = 0;  // taken ahead
  asio::thread_pool threads_;
};

}  // namespace nasbackup
