// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See luks_header_file.h.
#include "engine/io/luks_header_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "formats/format_error.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_header_reader.h"

namespace nasbackup {

namespace {

FileDescriptor open_image(const std::string& path, bool writing) {
  // O_NONBLOCK: a FIFO that somebody put there must not hold us.
  FileDescriptor file(::open(path.c_str(), (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
  if (!file && errno == ENOENT) throw Fault(FaultKind::not_found, path + ": open: no such file");
  if (!file) throw_target_errno(errno, path, "open");
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) throw_target_errno(errno, path, "stat");
  if (S_ISDIR(info.st_mode)) throw Fault(FaultKind::not_found, path + ": a directory, and no set");
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
    throw Fault(FaultKind::failed, path + ": neither a regular file nor a block device");
  return file;
}

std::uint64_t size_of(int fd, const std::string& path) {
  const off_t end = ::lseek(fd, 0, SEEK_END);  // of a device too
  if (end < 0) throw_target_errno(errno, path, "size");
  return static_cast<std::uint64_t>(end);
}

}  // namespace

LuksHeaderFile::LuksHeaderFile(const std::string& path, Access access, LifelineState* lifeline)
    : path_(path), lifeline_(lifeline) {
  {
    const TargetCall mark(lifeline_);
    file_ = open_image(path, access == Access::change);
    if (access == Access::change) lock_.emplace(ImageLock::for_writing(file_.get(), path));
  }
  try {
    find_header();
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, path_ + ": " + error.what());
  }
}

void LuksHeaderFile::find_header() {
  std::vector<std::byte> start(qcow2::kHeaderReadBytes);
  start.resize(read_up_to(0, start));
  const TargetCall mark(lifeline_);
  std::uint64_t room = size_of(file_.get(), path_);
  if (!luks::has_magic(start)) {
    if (!qcow2::has_magic(start)) throw NotEncrypted(path_ + ": not encrypted: neither qcow2 nor LUKS");
    const qcow2::HeaderFacts image = qcow2::parse_header(start);
    if (image.crypt_method != qcow2::kCryptLuks)
      throw NotEncrypted(path_ + (image.crypt_method == 0 ? ": not encrypted" : ": encrypted the old way (AES), not with LUKS"));
    place_ = luks::Place::in_qcow2;
    start_ = image.crypto_header_offset;
    if (start_ > room || room - start_ < image.crypto_header_length)
      throw FormatError("LUKS header: offset " + std::to_string(start_) + ", length " +
                        std::to_string(image.crypto_header_length) + ", beyond the file's " + std::to_string(room) + " bytes");
    room = image.crypto_header_length;
    start.resize(sizeof(luks::Phdr));
    start.resize(read_up_to(start_, start));
  }
  facts_ = luks::parse_header(start, room, place_);
}

std::size_t LuksHeaderFile::read_up_to(std::uint64_t file_offset, std::span<std::byte> into) const {
  std::size_t done = 0;
  while (done < into.size()) {
    const TargetCall mark(lifeline_);
    const ssize_t got = ::pread(file_.get(), into.data() + done, into.size() - done, static_cast<off_t>(file_offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_target_errno(errno, path_, "read");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void LuksHeaderFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (read_up_to(start_ + offset, into) < into.size())
    throw Fault(FaultKind::damaged, path_ + ": LUKS header: ends before byte " + std::to_string(offset + into.size()));
}

void LuksHeaderFile::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const TargetCall mark(lifeline_);
    const ssize_t done = ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(start_ + offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw_target_errno(errno, path_, "write");
    offset += static_cast<std::uint64_t>(done);
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void LuksHeaderFile::sync() {
  const TargetCall mark(lifeline_);
  if (::fsync(file_.get()) != 0) throw_target_errno(errno, path_, "fsync");
}

}  // namespace nasbackup
