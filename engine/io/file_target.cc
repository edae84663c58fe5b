// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A file that is written; see file_target.h.
#include "engine/io/file_target.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <vector>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/on_thread.h"

namespace nasbackup {

namespace {

FileDescriptor open_target(const std::string& path, int flags, LifelineState* lifeline) {
  const TargetCall mark(lifeline);
  FileDescriptor file(::open(path.c_str(), flags | O_RDWR | O_CLOEXEC, 0600));
  if (!file && errno == EBUSY) throw Fault(FaultKind::locked, path + ": in use: mounted, or something stands on it");
  if (!file) throw_target_errno(errno, path, (flags & O_CREAT) != 0 ? "create" : "open");
  return file;
}

}  // namespace

std::unique_ptr<FileTarget> FileTarget::create(const std::string& path, LifelineState* lifeline) {
  return std::unique_ptr<FileTarget>(
      new FileTarget(path, open_target(path, O_CREAT | O_EXCL | O_NOFOLLOW, lifeline), false, lifeline));
}

std::unique_ptr<FileTarget> FileTarget::open_device(const std::string& path, std::uint64_t size, LifelineState* lifeline) {
  // Exclusive: not one that is mounted, or that something else stands on.
  FileDescriptor file = open_target(path, O_EXCL, lifeline);
  std::uint64_t room = 0;
  const TargetCall mark(lifeline);
  if (::ioctl(file.get(), BLKGETSIZE64, &room) != 0) throw_target_errno(errno, path, "size of the device");
  if (room < size)
    throw Fault(FaultKind::target_full,
                path + ": device of " + std::to_string(room) + " bytes, " + std::to_string(size) + " are needed");
  return std::unique_ptr<FileTarget>(new FileTarget(path, std::move(file), true, lifeline));
}

FileTarget::FileTarget(std::string path, FileDescriptor file, bool is_device, LifelineState* lifeline)
    : path_(std::move(path)), file_(std::move(file)), is_device_(is_device), lifeline_(lifeline) {
  const TargetCall mark(lifeline_);
  lock_.emplace(ImageLock::for_writing(file_.get(), path_));
}

FileTarget::~FileTarget() {
  thread_.join();
  if (flush_under_way_.valid()) flush_under_way_.wait();
  const TargetCall mark(lifeline_);
  lock_.reset();
  file_.reset();
}

asio::awaitable<void> FileTarget::apply(WriteBatch& batch) {
  auto write = [&] { write_batch(batch); };
  co_await on_thread(thread_.get_executor(), write);
}

asio::awaitable<void> FileTarget::flush() {
  auto sync_all = [&] { sync(); };
  co_await on_thread(thread_.get_executor(), sync_all);
}

asio::awaitable<std::uint64_t> FileTarget::close(std::uint64_t size) {
  auto finish = [&] { close_now(size); };
  co_await on_thread(thread_.get_executor(), finish);
  co_return size;
}

void FileTarget::write_batch(const WriteBatch& batch) {
  for (const FileRange& range : batch.zeroes()) zero_range(range);
  for (const FileWrite& write : batch.writes()) {
    write_pieces(write);
    write_back(write.offset.value, write.length);
    flush_ahead(write.length);
  }
}

void FileTarget::write_pieces(const FileWrite& write) {
  std::array<iovec, 64> vectors;
  std::uint64_t at = write.offset.value;
  std::size_t piece = 0;   // the first piece that is not wholly written
  std::size_t within = 0;  // bytes of it that are
  while (piece < write.pieces.size()) {
    std::size_t count = 0;
    for (std::size_t i = piece; i < write.pieces.size() && count < vectors.size(); ++i, ++count) {
      const auto rest = i == piece ? write.pieces[i].bytes.subspan(within) : write.pieces[i].bytes;
      vectors[count] = {rest.data(), rest.size()};
    }
    const TargetCall mark(lifeline_);
    const ssize_t wrote = ::pwritev(file_.get(), vectors.data(), static_cast<int>(count), static_cast<off_t>(at));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) throw_target_errno(wrote < 0 ? errno : ENOSPC, path_, "write at " + std::to_string(at));
    at += static_cast<std::uint64_t>(wrote);
    within += static_cast<std::size_t>(wrote);
    for (; piece < write.pieces.size() && within >= write.pieces[piece].bytes.size(); ++piece)
      within -= write.pieces[piece].bytes.size();
  }
}

// Begins writeback of each full stretch and waits for the one before, whose pages are then given back: a backup must not push
// what the guests use out of the host's cache, and a page that is used again is cheaper than a new one. A stretch is what was
// written since the last one, wherever it lies: compressed and plain clusters alternate. Only hints to the kernel: errors show
// in fsync.
void FileTarget::write_back(std::uint64_t offset, std::uint64_t length) {
  written_from_ = written_bytes_ == 0 ? offset : std::min(written_from_, offset);
  written_to_ = written_bytes_ == 0 ? offset + length : std::max(written_to_, offset + length);
  written_bytes_ += length;
  if (written_bytes_ < stretch_.bytes()) return;
  written_bytes_ = 0;
  const TargetCall mark(lifeline_);
  ::sync_file_range(file_.get(), static_cast<off_t>(written_from_), static_cast<off_t>(written_to_ - written_from_),
                    SYNC_FILE_RANGE_WRITE);
  if (flushing_to_ > flushing_from_) {
    const auto from = static_cast<off_t>(flushing_from_);
    const auto before = static_cast<off_t>(flushing_to_ - flushing_from_);
    ::sync_file_range(file_.get(), from, before, SYNC_FILE_RANGE_WAIT_BEFORE);
    ::posix_fadvise(file_.get(), from, before, POSIX_FADV_DONTNEED);
  }
  flushing_from_ = written_from_;
  flushing_to_ = written_to_;
}

// Writeback ends in the cache of the disk, or of the server, which may take gigabytes and empty it only when it is asked to: then
// the last fsync would wait for all of them. One flush at a time: where they are slow, each has more to do. What one of them
// tells of, a full disk on NFS, say, no later fsync would tell again.
void FileTarget::flush_ahead(std::uint64_t length) {
  unflushed_ += length;
  const auto now = std::chrono::seconds(0);
  const bool busy = flush_under_way_.valid() && flush_under_way_.wait_for(now) != std::future_status::ready;
  if (unflushed_ < stretch_.of_flush() || busy) return;
  await_flush_ahead();
  unflushed_ = 0;
  flush_under_way_ = std::async(std::launch::async, [this] { return sync_data(); });
}

void FileTarget::await_flush_ahead() {
  if (flush_under_way_.valid()) stretch_.flushed_in(flush_under_way_.get());
}

std::chrono::nanoseconds FileTarget::sync_data() {
  const TargetCall mark(lifeline_);
  const std::int64_t began = monotonic_ns();
  if (::fdatasync(file_.get()) != 0) throw_target_errno(errno, path_, "fdatasync");
  return std::chrono::nanoseconds(monotonic_ns() - began);
}

// Punches a hole where the file system can, otherwise writes zeroes.
void FileTarget::zero_range(const FileRange& range) {
  constexpr std::uint64_t kStep = 1u << 30;  // each call short enough for --io-timeout to see progress
  const auto end = range.offset.value + range.length;
  for (std::uint64_t at = range.offset.value; at < end; at += std::min(kStep, end - at)) {
    const TargetCall mark(lifeline_);
    const auto length = std::min(kStep, end - at);
    const int mode = is_device_ ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (::fallocate(file_.get(), mode, static_cast<off_t>(at), static_cast<off_t>(length)) == 0) continue;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
      throw_target_errno(errno, path_, "zeroing at " + std::to_string(at));
    static std::vector<std::byte> zeroes(1u << 20);
    for (std::uint64_t done = 0; done < length; done += zeroes.size()) {
      const auto part = std::min<std::uint64_t>(zeroes.size(), length - done);
      write_pieces({HostOffset(at + done), part, {{std::span(zeroes).first(part), Content::guest_data}}});
    }
  }
}

void FileTarget::sync() {
  await_flush_ahead();
  const TargetCall mark(lifeline_);
  if (::fsync(file_.get()) != 0) throw_target_errno(errno, path_, "fsync");
}

// NFS tells of a full disk in fsync or close: both count. The descriptor is gone after close() whatever it says.
void FileTarget::close_now(std::uint64_t size) {
  await_flush_ahead();
  const TargetCall mark(lifeline_);
  if (!is_device_ && ::ftruncate(file_.get(), static_cast<off_t>(size)) != 0)
    throw_target_errno(errno, path_, "setting the size");
  if (::fsync(file_.get()) != 0) throw_target_errno(errno, path_, "fsync");
  lock_.reset();
  if (::close(file_.release()) != 0) throw_target_errno(errno, path_, "close");
}

}  // namespace nasbackup
