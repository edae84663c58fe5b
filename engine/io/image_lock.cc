// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// QEMU's image locks; see image_lock.h.
#include "engine/io/image_lock.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <span>
#include <utility>

#include "engine/io/fault.h"

namespace nasbackup {

namespace {

// qemu block/file-posix.c: RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE. Libvirt keeps byte 0 to itself.
constexpr std::int64_t kUsedBase = 100;
constexpr std::int64_t kNotSharedBase = 200;

// qemu include/block/block-common.h: the numbers of the bits of BLK_PERM_…
constexpr std::int64_t kConsistentRead = 0;
constexpr std::int64_t kWrite = 1;
constexpr std::int64_t kResize = 3;

constexpr std::array<std::int64_t, 1> kUsedByReader{kConsistentRead};
constexpr std::array<std::int64_t, 3> kUsedByWriter{kConsistentRead, kWrite, kResize};
constexpr std::array<std::int64_t, 2> kNotShared{kWrite, kResize};

/// File systems where a refused read lease means that the file is open for writing, and nothing else. NFS and CIFS refuse it also
/// when the server has not delegated the file.
constexpr std::array<std::uint32_t, 6> kTellsOfWriters{EXT4_SUPER_MAGIC, 0x58465342 /* XFS */, BTRFS_SUPER_MAGIC,
                                                       TMPFS_MAGIC,      F2FS_SUPER_MAGIC,     0x2fc12fc1 /* ZFS */};

struct flock one_byte(short type, std::int64_t byte) noexcept {
  struct flock lock {};  // l_pid must be 0 for this kind of lock
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

/// Not a conflict: this file system (or its server) has no such locks.
bool means_no_locks(int error) noexcept {
  return error == ENOLCK || error == EOPNOTSUPP || error == EINVAL || error == ENOSYS || error == ENOTTY;
}

bool tells_of_writers(int fd) noexcept {
  struct statfs info {};
  if (::fstatfs(fd, &info) != 0) return false;
  for (const std::uint32_t magic : kTellsOfWriters)
    if (static_cast<std::uint32_t>(info.f_type) == magic) return true;
  return false;
}

/// Sectors written and discarded since the device exists (Documentation/block/stat.rst); 0 when the kernel does not say.
std::uint64_t sectors_written(dev_t device) {
  std::ifstream stat("/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + "/stat");
  std::array<std::uint64_t, 14> field{};
  for (auto& value : field)
    if (!(stat >> value)) value = 0;
  return field[6] + field[13];
}

bool same_time(const timespec& a, const timespec& b) noexcept { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

}  // namespace

ImageLock ImageLock::for_reading(int fd, const std::string& path) { return ImageLock(fd, path, Use::reading); }

ImageLock ImageLock::for_writing(int fd, const std::string& path) { return ImageLock(fd, path, Use::writing); }

ImageLock ImageLock::for_writing_after(ImageLock reading, int fd, const std::string& path) {
  return ImageLock(fd, path, Use::writing, &reading);
}

ImageLock::ImageLock(int fd, const std::string& path, Use use, ImageLock* before) : fd_(fd), path_(path), use_(use) {
  try {
    lock_or_note(before);
    if (use_ == Use::writing) return;
    refuse_open_writer();
    at_first_ = look_for_traces();
  } catch (...) {
    release();
    throw;
  }
}

ImageLock::~ImageLock() { release(); }

ImageLock::ImageLock(ImageLock&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      use_(other.use_),
      reading_is_over_(other.reading_is_over_),
      note_(std::move(other.note_)),
      at_first_(other.at_first_) {}

ImageLock& ImageLock::operator=(ImageLock&& other) noexcept {
  if (this == &other) return *this;
  release();
  fd_ = std::exchange(other.fd_, -1);
  path_ = std::move(other.path_);
  use_ = other.use_;
  reading_is_over_ = other.reading_is_over_;
  note_ = std::move(other.note_);
  at_first_ = other.at_first_;
  return *this;
}

// First lock, then look, as QEMU does: of two that come at once, at least one sees the other. The one before would be taken for
// somebody else's.
void ImageLock::lock_or_note(ImageLock* before) {
  const std::span<const std::int64_t> used = use_ == Use::reading ? std::span<const std::int64_t>(kUsedByReader) : kUsedByWriter;
  for (const auto permission : used)
    if (!lock_byte(kUsedBase + permission)) return;
  for (const auto permission : kNotShared)
    if (!lock_byte(kNotSharedBase + permission)) return;
  if (before != nullptr) before->release();
  for (const auto permission : used) refuse_opposite(kNotSharedBase + permission);
  for (const auto permission : kNotShared) refuse_opposite(kUsedBase + permission);
}

/// A shared lock, so that it also works on a descriptor that cannot write. False: no such locks here.
bool ImageLock::lock_byte(std::int64_t byte) {
  struct flock lock = one_byte(F_RDLCK, byte);
  int result = ::fcntl(fd_, F_OFD_SETLK, &lock);
  while (result != 0 && errno == EINTR) result = ::fcntl(fd_, F_OFD_SETLK, &lock);
  if (result == 0) return true;
  if (errno == EAGAIN || errno == EACCES) refuse("another process holds it for itself alone");
  if (!means_no_locks(errno)) {
    const std::string what = path_ + ": image lock on byte " + std::to_string(byte) + ": " + std::strerror(errno);
    throw Fault(use_ == Use::reading ? FaultKind::source : FaultKind::failed, what);
  }
  note_ = path_ + ": no image locks on this file system (" + std::strerror(errno) +
          "): nothing keeps other programs from writing to it";
  return false;
}

void ImageLock::refuse_opposite(std::int64_t byte) const {
  struct flock lock = one_byte(F_WRLCK, byte);
  if (::fcntl(fd_, F_OFD_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return;
  if (use_ == Use::writing) refuse("another process has it open");
  refuse(byte >= kNotSharedBase ? "another process does not share it" : "another process has it open for writing");
}

// The kernel grants a read lease on a file only while nobody has it open for writing; it is given back at once. Whoever opens the
// file in that moment waits for us, and we would get a signal: one that is ignored unless asked for.
void ImageLock::refuse_open_writer() const {
  const bool read_only = (::fcntl(fd_, F_GETFL) & O_ACCMODE) == O_RDONLY;
  if (!read_only || !tells_of_writers(fd_) || ::fcntl(fd_, F_SETSIG, SIGURG) != 0) return;
  if (::fcntl(fd_, F_SETLEASE, F_RDLCK) == 0) {
    ::fcntl(fd_, F_SETLEASE, F_UNLCK);
    return;
  }
  if (errno == EAGAIN) refuse("another process has it open for writing");
}

void ImageLock::refuse(const std::string& how) const {
  const char* what = reading_is_over_ ? ": came into use while it was read: " : ": in use: ";
  throw Fault(use_ == Use::reading ? FaultKind::source : FaultKind::locked, path_ + what + how);
}

ImageLock::Traces ImageLock::look_for_traces() const {
  Traces traces;
  struct statx info {};
  // The server's word, not what this host remembers of it.
  if (::statx(fd_, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &info) != 0)
    throw_source_errno(errno, path_, "stat");
  if (!S_ISBLK(info.stx_mode)) {
    traces.size = info.stx_size;
    traces.modified = {static_cast<time_t>(info.stx_mtime.tv_sec), static_cast<long>(info.stx_mtime.tv_nsec)};
    return traces;
  }
  if (::ioctl(fd_, BLKGETSIZE64, &traces.size) != 0) throw_source_errno(errno, path_, "size of the device");
  ::fdatasync(fd_);  // so that what was written before is not counted as written meanwhile; errors show when it is read
  traces.sectors_written = sectors_written(makedev(info.stx_rdev_major, info.stx_rdev_minor));
  return traces;
}

// Locking again changes nothing where we still hold the locks, and shows who came when a server has lost them.
void ImageLock::confirm_undisturbed() {
  if (use_ == Use::writing) return;
  reading_is_over_ = true;
  const Traces now = look_for_traces();
  const char* in_between = ": changed while it was read: ";
  if (now.size != at_first_.size)
    throw Fault(FaultKind::source,
                path_ + in_between + "size was " + std::to_string(at_first_.size) + ", is " + std::to_string(now.size));
  if (!same_time(now.modified, at_first_.modified) || now.sectors_written != at_first_.sectors_written)
    throw Fault(FaultKind::source, path_ + in_between + "another process has written to it");
  lock_or_note();
  refuse_open_writer();
}

void ImageLock::release() noexcept {
  if (fd_ < 0) return;
  struct flock all = one_byte(F_UNLCK, kUsedBase);
  all.l_len = kNotSharedBase + kResize + 1 - kUsedBase;
  ::fcntl(fd_, F_OFD_SETLK, &all);
  fd_ = -1;
}

}  // namespace nasbackup
