// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A file that is written; see file_target.h.
#include "engine/io/file_target.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/on_thread.h"

namespace nasbackup {

namespace {

/// Writeback is begun for each stretch of this size, and the stretch before is waited for: at most two are dirty.
constexpr std::uint64_t kWritebackStretch = 32u << 20;

/// Direct writes are whole pages from whole pages; buffers and clusters of 4 KiB and more are.
constexpr std::uint64_t kDirectAlignment = 4096;
/// Kernel: fs/smb/common/smb2pdu.h, cifs_fs.h; fs/fuse/inode.c.
constexpr std::uint32_t kCifsMagic = 0xFF534D42, kSmb2Magic = 0xFE534D42, kFuseMagic = 0x65735546;
/// Direct writes under way at once: enough to keep an SSD's queue from running dry.
constexpr unsigned kDirectWrites = 3;
/// Bytes of direct writes after which the disk's cache is emptied.
constexpr std::uint64_t kDirectStretch = 32u << 20;
/// Room taken at a time: inside room that is there already, direct writes need not wait for each other.
constexpr std::uint64_t kRoomAhead = 64u << 20;
constexpr std::uint64_t kPlenty = 32 * kRoomAhead;

bool is_of_a_network(int file) noexcept {
  struct statfs info {};
  if (::fstatfs(file, &info) != 0) return true;
  const auto type = static_cast<std::uint32_t>(info.f_type);
  return type == NFS_SUPER_MAGIC || type == SMB_SUPER_MAGIC || type == kCifsMagic || type == kSmb2Magic || type == kFuseMagic;
}

bool is_aligned(const FileWrite& write) noexcept {
  const auto aligned = [](std::uint64_t n) { return n % kDirectAlignment == 0; };
  return aligned(write.offset.value) && std::all_of(write.pieces.begin(), write.pieces.end(), [&](const FilePiece& piece) {
           return aligned(piece.bytes.size()) && aligned(reinterpret_cast<std::uintptr_t>(piece.bytes.data()));
         });
}

FileDescriptor open_target(const std::string& path, int flags, LifelineState* lifeline) {
  const TargetCall mark(lifeline);
  FileDescriptor file(::open(path.c_str(), flags | O_RDWR | O_CLOEXEC, 0600));
  if (!file) throw_target_errno(errno, path, (flags & O_CREAT) != 0 ? "create" : "open");
  return file;
}

}  // namespace

std::unique_ptr<FileTarget> FileTarget::create(const std::string& path, bool grows, LifelineState* lifeline) {
  FileDescriptor file = open_target(path, O_CREAT | O_EXCL | O_NOFOLLOW, lifeline);
  FileDescriptor direct = open_direct(path, file.get(), lifeline);
  return std::unique_ptr<FileTarget>(new FileTarget(path, {std::move(file), std::move(direct), false, grows}, lifeline));
}

std::unique_ptr<FileTarget> FileTarget::open_device(const std::string& path, std::uint64_t size, LifelineState* lifeline) {
  FileDescriptor file = open_target(path, 0, lifeline);
  std::uint64_t room = 0;
  const TargetCall mark(lifeline);
  if (::ioctl(file.get(), BLKGETSIZE64, &room) != 0) throw_target_errno(errno, path, "size of the device");
  if (room < size)
    throw Fault(FaultKind::target_full,
                path + ": device of " + std::to_string(room) + " bytes, " + std::to_string(size) + " are needed");
  return std::unique_ptr<FileTarget>(new FileTarget(path, {std::move(file), FileDescriptor(), true, false}, lifeline));
}

/// The file once more with O_DIRECT, if the file system says that it takes what we can give; otherwise nothing.
FileDescriptor FileTarget::open_direct(const std::string& path, int file, LifelineState* lifeline) {
  const TargetCall mark(lifeline);
  struct statx info {};
  if (::statx(file, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) != 0 || (info.stx_mask & STATX_DIOALIGN) == 0)
    return FileDescriptor();
  if (is_of_a_network(file)) return FileDescriptor();  // newer kernels say how for NFS too
  const bool fits = info.stx_dio_offset_align != 0 && info.stx_dio_offset_align <= kDirectAlignment &&
                    info.stx_dio_mem_align != 0 && info.stx_dio_mem_align <= kDirectAlignment;
  return FileDescriptor(fits ? ::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW) : -1);
}

FileTarget::FileTarget(std::string path, Means means, LifelineState* lifeline)
    : path_(std::move(path)), means_(std::move(means)), lifeline_(lifeline), threads_(means_.direct ? kDirectWrites : 1) {
  const TargetCall mark(lifeline_);
  lock_.emplace(ImageLock::for_writing(means_.file.get(), path_));
}

FileTarget::~FileTarget() {
  threads_.join();
  const TargetCall mark(lifeline_);
  lock_.reset();
  means_ = {};
}

asio::awaitable<void> FileTarget::apply(WriteBatch& batch) {
  auto write = [&] {
    write_batch(batch);
    --under_way_;
  };
  ++under_way_;
  co_await on_thread(threads_.get_executor(), write);
}

asio::awaitable<void> FileTarget::flush() {
  auto sync_all = [&] { sync(); };
  co_await on_thread(threads_.get_executor(), sync_all);
}

asio::awaitable<std::uint64_t> FileTarget::close(std::uint64_t size) {
  auto finish = [&] { close_now(size); };
  co_await on_thread(threads_.get_executor(), finish);
  co_return size;
}

void FileTarget::write_batch(const WriteBatch& batch) {
  for (const FileRange& range : batch.zeroes()) zero_range(range);
  for (const FileWrite& write : batch.writes()) {
    const bool direct = means_.direct && is_aligned(write);
    if (direct && means_.grows) take_room((write.offset + write.length).value);
    write_pieces(direct ? means_.direct : means_.file, write);
    if (direct) flush_along(write.length);
    if (!means_.direct) write_back(write.offset.value, write.length);
  }
}

// A direct write ends in the disk's own cache. Emptied along the way, it leaves the last fsync little to do; but only while
// nobody waits to write, for then the disk is what everybody waits for (docs/performance.md). What fails here would fail there.
void FileTarget::flush_along(std::uint64_t length) {
  if ((unflushed_bytes_ += length) < kDirectStretch || under_way_ > 1) return;
  unflushed_bytes_ = 0;
  const TargetCall mark(lifeline_);
  if (::fdatasync(means_.direct.get()) != 0) throw_target_errno(errno, path_, "fdatasync");
}

// Only so that direct writes inside the file can go side by side: where no room can be had ahead, the write itself says so. Not
// where room is scarce: what is ahead of this file would be missing to others.
void FileTarget::take_room(std::uint64_t end) {
  const std::lock_guard one_at_a_time(room_mutex_);
  if (end <= room_to_) return;
  const TargetCall mark(lifeline_);
  struct statvfs room {};
  const bool plenty = ::fstatvfs(means_.file.get(), &room) == 0 && room.f_bavail * room.f_frsize >= kPlenty;
  const std::uint64_t to = plenty ? end + kRoomAhead : end;
  ::fallocate(means_.file.get(), 0, static_cast<off_t>(room_to_), static_cast<off_t>(to - room_to_));
  room_to_ = to;
}

void FileTarget::write_pieces(const FileDescriptor& file, const FileWrite& write) {
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
    const ssize_t wrote = ::pwritev(file.get(), vectors.data(), static_cast<int>(count), static_cast<off_t>(at));
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
  if (written_bytes_ < kWritebackStretch) return;
  written_bytes_ = 0;
  const TargetCall mark(lifeline_);
  ::sync_file_range(means_.file.get(), static_cast<off_t>(written_from_), static_cast<off_t>(written_to_ - written_from_),
                    SYNC_FILE_RANGE_WRITE);
  if (flushing_to_ > flushing_from_) {
    const auto from = static_cast<off_t>(flushing_from_);
    const auto before = static_cast<off_t>(flushing_to_ - flushing_from_);
    ::sync_file_range(means_.file.get(), from, before, SYNC_FILE_RANGE_WAIT_BEFORE);
    ::posix_fadvise(means_.file.get(), from, before, POSIX_FADV_DONTNEED);
  }
  flushing_from_ = written_from_;
  flushing_to_ = written_to_;
}

// Punches a hole where the file system can, otherwise writes zeroes.
void FileTarget::zero_range(const FileRange& range) {
  constexpr std::uint64_t kStep = 1u << 30;  // each call short enough for --io-timeout to see progress
  const auto end = range.offset.value + range.length;
  for (std::uint64_t at = range.offset.value; at < end; at += std::min(kStep, end - at)) {
    const TargetCall mark(lifeline_);
    const auto length = std::min(kStep, end - at);
    const int mode = means_.is_device ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (::fallocate(means_.file.get(), mode, static_cast<off_t>(at), static_cast<off_t>(length)) == 0) continue;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
      throw_target_errno(errno, path_, "zeroing at " + std::to_string(at));
    static const AlignedBytes zeroes(1u << 20);
    for (std::uint64_t done = 0; done < length; done += zeroes.size()) {
      const auto part = std::min<std::uint64_t>(zeroes.size(), length - done);
      write_pieces(means_.file, {HostOffset(at + done), part, {{zeroes.span().first(part), Content::guest_data}}});
    }
  }
}

void FileTarget::sync() {
  const TargetCall mark(lifeline_);
  if (::fsync(means_.file.get()) != 0) throw_target_errno(errno, path_, "fsync");
}

// NFS tells of a full disk in fsync or close: both count. The descriptor is gone after close() whatever it says.
void FileTarget::close_now(std::uint64_t size) {
  const TargetCall mark(lifeline_);
  if (!means_.is_device && ::ftruncate(means_.file.get(), static_cast<off_t>(size)) != 0)
    throw_target_errno(errno, path_, "setting the size");
  if (::fsync(means_.file.get()) != 0) throw_target_errno(errno, path_, "fsync");
  lock_.reset();
  means_.direct.reset();
  if (::close(means_.file.release()) != 0) throw_target_errno(errno, path_, "close");
}

}  // namespace nasbackup
