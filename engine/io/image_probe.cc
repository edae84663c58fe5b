// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a file is; see image_probe.h.
#include "engine/io/image_probe.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/lifeline_state.h"
#include "formats/format_error.h"
#include "formats/luks_header_reader.h"

namespace nasbackup {

namespace {

FileDescriptor open_image(const std::string& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file && errno == ENOENT) throw Fault(FaultKind::not_found, path + ": open: no such file");
  if (!file) throw_source_errno(errno, path, "open");
  return file;
}

std::vector<std::byte> read_start(int fd, const std::string& path) {
  std::vector<std::byte> bytes(qcow2::kHeaderReadBytes);
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_source_errno(errno, path, "read");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

}  // namespace

ProbedImage probe_image(const std::string& path, LifelineState* lifeline) {
  const TargetCall mark(lifeline);
  const FileDescriptor file = open_image(path);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) throw_source_errno(errno, path, "stat");
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
    throw Fault(FaultKind::source, path + ": neither a regular file nor a block device");
  ProbedImage image;
  image.file_size = static_cast<std::uint64_t>(info.st_size);
  image.disk_size = static_cast<std::uint64_t>(info.st_blocks) * 512;
  if (S_ISBLK(info.st_mode)) {
    if (::ioctl(file.get(), BLKGETSIZE64, &image.file_size) != 0) throw_source_errno(errno, path, "size of the device");
    image.disk_size = image.file_size;
  }
  const std::vector<std::byte> start = read_start(file.get(), path);
  if (luks::has_magic(start)) image.format = ImageFormat::luks;
  if (!qcow2::has_magic(start)) return image;
  image.format = ImageFormat::qcow2;
  try {
    image.header = qcow2::parse_header(start);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, path + ": " + error.what());
  }
  return image;
}

void refuse_unless_raw(const std::string& path, LifelineState* lifeline) {
  const TargetCall mark(lifeline);
  const FileDescriptor file = open_image(path);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || !(S_ISREG(info.st_mode) || S_ISBLK(info.st_mode))) return;  // its opening says why
  std::vector<std::byte> start(8);
  const ssize_t got = ::pread(file.get(), start.data(), start.size(), 0);
  start.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  const char* format = qcow2::has_magic(start) ? "qcow2" : luks::has_magic(start) ? "luks" : nullptr;
  if (format != nullptr)
    throw Fault(FaultKind::source,
                path + ": looks like " + format + ", which is not read as a source; write -f raw if it is a raw disk");
}

}  // namespace nasbackup
