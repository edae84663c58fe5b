// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See image_bytes.h.
#include "engine/io/image_bytes.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "formats/units.h"

namespace nasbackup {

ImageBytes::ImageBytes(const std::string& path, LifelineState* lifeline, Access access) : path_(path), lifeline_(lifeline) {
  const TargetCall mark(lifeline_);
  // O_NONBLOCK: a FIFO that somebody put there must not hold us.
  file_ = FileDescriptor(::open(path.c_str(), (access == Access::change ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
  if (!file_ && errno == ENOENT) throw Fault(FaultKind::not_found, path + ": open: no such file");
  if (!file_) throw_source_errno(errno, path, "open");
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) throw_source_errno(errno, path, "stat");
  if (S_ISDIR(info.st_mode)) throw Fault(FaultKind::not_found, path + ": a directory, and no set");
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
    throw Fault(FaultKind::source, path + ": neither a regular file nor a block device");
  is_device_ = S_ISBLK(info.st_mode);
  identity_ = is_device_ ? std::pair<std::uint64_t, std::uint64_t>(info.st_rdev, ~std::uint64_t{0})
                         : std::pair<std::uint64_t, std::uint64_t>(info.st_dev, info.st_ino);
  file_size_ = size_now();
  disk_size_ = is_device_ ? file_size_ : static_cast<std::uint64_t>(info.st_blocks) * 512;
}

std::uint64_t ImageBytes::size_now() const {
  std::uint64_t size = 0;
  if (is_device_) {
    if (::ioctl(file_.get(), BLKGETSIZE64, &size) != 0) throw_source_errno(errno, path_, "size of the device");
    return size;
  }
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) throw_source_errno(errno, path_, "stat");
  return static_cast<std::uint64_t>(info.st_size);
}

void ImageBytes::lock_for_reading() {
  const TargetCall mark(lifeline_);
  lock_.emplace(ImageLock::for_reading(file_.get(), path_));
  ::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
}

void ImageBytes::confirm_unchanged() {
  const TargetCall mark(lifeline_);
  if (lock_) lock_->confirm_undisturbed();
  if (const std::uint64_t now = size_now(); now != file_size_)
    throw Fault(FaultKind::source, path_ + ": size changed while it was read: " + std::to_string(file_size_) + " to " +
                                       std::to_string(now) + " bytes");
}

// In a container zeroes are not holes, and what lies there is known only once it is deciphered.
std::uint64_t ImageBytes::seek(std::uint64_t from, int whence) const {
  if (is_device_ || cipher_) return whence == SEEK_DATA ? from : size();
  const TargetCall mark(lifeline_);
  const off_t found = ::lseek(file_.get(), static_cast<off_t>(from), whence);
  if (found >= 0) return std::max(static_cast<std::uint64_t>(found), from);
  if (errno == ENXIO) return size();
  if (errno == EINVAL || errno == EOPNOTSUPP) return whence == SEEK_DATA ? from : size();
  throw_source_errno(errno, path_, "looking for holes");
}

std::uint64_t ImageBytes::size() const noexcept {
  return cipher_ ? round_down(file_size_ - start_, crypto::AesXts::kSectorBytes) : file_size_;
}

void ImageBytes::enter_container(std::uint64_t payload_offset, std::span<const std::byte> volume_key) {
  start_ = payload_offset;
  cipher_ = std::make_unique<crypto::AesXts>(volume_key);
}

std::size_t ImageBytes::read_up_to(std::uint64_t offset, std::span<std::byte> into) const {
  return cipher_ ? read_payload(offset, into) : read_file(offset, into);
}

void ImageBytes::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (read_up_to(offset, into) < into.size())
    throw Fault(FaultKind::damaged, path_ + ": ends before byte " + std::to_string(start_ + offset + into.size()));
}

std::size_t ImageBytes::read_file(std::uint64_t file_offset, std::span<std::byte> into) const {
  if (file_offset >= file_size_) return 0;  // a table may say anything, also what pread would not take
  std::size_t done = 0;
  while (done < into.size()) {
    const TargetCall mark(lifeline_);
    const ssize_t got = ::pread(file_.get(), into.data() + done, into.size() - done, static_cast<off_t>(file_offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_source_errno(errno, path_, "read at " + std::to_string(file_offset + done));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

// Whole sectors are deciphered; what the file ends with, less than one, is nothing.
std::size_t ImageBytes::read_payload(std::uint64_t offset, std::span<std::byte> into) const {
  constexpr std::uint64_t kSector = crypto::AesXts::kSectorBytes;
  if (offset >= size()) return 0;
  const std::uint64_t first = offset / kSector;
  if (offset % kSector == 0 && into.size() % kSector == 0) {
    const std::size_t whole = read_file(start_ + offset, into) / kSector * kSector;
    cipher_->decrypt(first, into.first(whole));
    return whole;
  }
  std::vector<std::byte> sectors(round_up(offset + into.size(), kSector) - first * kSector);
  sectors.resize(read_file(start_ + first * kSector, sectors) / kSector * kSector);
  cipher_->decrypt(first, sectors);
  const std::size_t skipped = offset - first * kSector;
  const std::size_t got = std::min(into.size(), sectors.size() - std::min(skipped, sectors.size()));
  if (got > 0) std::memcpy(into.data(), sectors.data() + skipped, got);
  return got;
}

}  // namespace nasbackup
