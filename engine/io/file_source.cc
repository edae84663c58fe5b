// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A raw image in a file; see file_source.h.
#include "engine/io/file_source.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/on_thread.h"

namespace nasbackup {

namespace {

/// Extents handed out by one call: enough to keep the readers busy, few enough to be cheap.
constexpr std::size_t kExtentsPerCall = 256;

std::uint64_t device_size(int fd, const std::string& path) {
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) throw_source_errno(errno, path, "size of the device");
  return size;
}

}  // namespace

FileSource::FileSource(asio::any_io_executor pool, std::string path, bool shared, unsigned depth, LifelineState* lifeline)
    : pool_(std::move(pool)), path_(std::move(path)), depth_(depth), lifeline_(lifeline) {
  const TargetCall mark(lifeline_);
  // O_NONBLOCK: a FIFO must not hang us before fstat has told that it is one.
  file_ = FileDescriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file_ && errno == ENOENT) throw Fault(FaultKind::not_found, path_ + ": open: no such file");
  if (!file_) throw_source_errno(errno, path_, "open");
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) throw_source_errno(errno, path_, "stat");
  is_device_ = S_ISBLK(info.st_mode);
  if (!is_device_ && !S_ISREG(info.st_mode))
    throw Fault(FaultKind::source, path_ + ": neither a regular file nor a block device");
  if (!shared) lock_.emplace(ImageLock::for_reading(file_.get(), path_));
  size_ = is_device_ ? device_size(file_.get(), path_) : static_cast<std::uint64_t>(info.st_size);
  ::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
}

asio::awaitable<std::vector<Extent>> FileSource::extents(GuestOffset from, std::uint64_t granularity) {
  std::vector<Extent> found;
  auto look = [&] { found = extents_now(from, granularity); };
  co_await on_thread(pool_, look);
  co_return found;
}

// Two calls for each run of data, however finely it is broken up inside one piece of `granularity`: after data the search goes
// on behind the whole piece.
std::vector<Extent> FileSource::extents_now(GuestOffset from, std::uint64_t granularity) const {
  std::vector<Extent> found;
  std::uint64_t at = from.value;
  while (at < size_ && found.size() < kExtentsPerCall) {
    const std::uint64_t data = std::max(at, std::min(size_, round_down(seek(at, SEEK_DATA), granularity)));
    if (data > at) found.push_back({{GuestOffset(at), data - at}, ExtentKind::zero});
    if (data >= size_) break;
    const std::uint64_t hole = std::min(size_, round_up(seek(data, SEEK_HOLE), granularity));
    const std::uint64_t end = std::max(hole, std::min(size_, data + granularity));
    found.push_back({{GuestOffset(data), end - data}, ExtentKind::data});
    at = end;
  }
  return found;
}

/// Where the next data (or hole) begins; the size of the file when there is none. A file system without holes, and a device, has
/// only data.
std::uint64_t FileSource::seek(std::uint64_t from, int whence) const {
  if (is_device_) return whence == SEEK_DATA ? from : size_;
  const TargetCall mark(lifeline_);
  const off_t found = ::lseek(file_.get(), static_cast<off_t>(from), whence);
  if (found >= 0) return std::max(static_cast<std::uint64_t>(found), from);
  if (errno == ENXIO) return size_;
  if (errno == EINVAL || errno == EOPNOTSUPP) return whence == SEEK_DATA ? from : size_;
  throw_source_errno(errno, path_, "looking for holes");
}

asio::awaitable<void> FileSource::read(GuestOffset from, std::span<std::byte> into) {
  auto fill = [&] { read_now(from, into); };
  co_await on_thread(pool_, fill);
}

void FileSource::read_now(GuestOffset from, std::span<std::byte> into) const {
  const std::uint64_t inside = std::min<std::uint64_t>(into.size(), size_ - std::min(size_, from.value));
  std::uint64_t done = 0;
  while (done < inside) {
    const TargetCall mark(lifeline_);
    const ssize_t got = ::pread(file_.get(), into.data() + done, inside - done, static_cast<off_t>(from.value + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_source_errno(errno, path_, "read at " + std::to_string(from.value + done));
    if (got == 0)
      throw Fault(FaultKind::source, path_ + ": shrank while it was read: ends at " + std::to_string(from.value + done) + " of " +
                                         std::to_string(size_) + " bytes");
    done += static_cast<std::uint64_t>(got);
  }
  std::memset(into.data() + inside, 0, into.size() - inside);
}

asio::awaitable<void> FileSource::confirm() {
  auto look = [&] {
    const TargetCall mark(lifeline_);
    if (lock_) lock_->confirm_undisturbed();
    struct stat info {};
    if (::fstat(file_.get(), &info) != 0) throw_source_errno(errno, path_, "stat");
    const auto now = is_device_ ? device_size(file_.get(), path_) : static_cast<std::uint64_t>(info.st_size);
    if (now != size_)
      throw Fault(FaultKind::source,
                  path_ + ": size changed while it was read: " + std::to_string(size_) + " to " + std::to_string(now) + " bytes");
  };
  co_await on_thread(pool_, look);
}

}  // namespace nasbackup
