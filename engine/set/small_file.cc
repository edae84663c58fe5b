// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Small file; see small_file.h.
#include "engine/set/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <vector>

#include "crypto/digest.h"
#include "engine/io/fault.h"
#include "engine/set/hex.h"

namespace nasbackup::set {

namespace {

FileDescriptor open_file(const Directory& directory, const std::string& name, int flags) noexcept {
  int fd = -1;
  do {
    TargetCall mark(directory.state());
    // O_NONBLOCK: a FIFO that somebody put there must not hold us; on a regular file it means nothing.
    fd = ::openat(directory.fd(), name.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  } while (fd < 0 && errno == EINTR);
  return FileDescriptor(fd);
}

struct stat status_of(const FileDescriptor& fd, const std::string& path, LifelineState* state) {
  struct stat status {};
  TargetCall mark(state);
  if (::fstat(fd.get(), &status) != 0) throw_target_errno(errno, path, "cannot look at it");
  if (!S_ISREG(status.st_mode)) throw Fault(FaultKind::damaged, path + ": not a regular file");
  return status;
}

void write_all(const FileDescriptor& fd, std::string_view content, const std::string& path, LifelineState* state) {
  std::size_t done = 0;
  while (done < content.size()) {
    TargetCall mark(state);
    const ssize_t n = ::pwrite(fd.get(), content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_target_errno(errno, path, "write failed");
    done += static_cast<std::size_t>(n);
  }
}

void close_file(FileDescriptor fd, const std::string& path, LifelineState* state) {
  TargetCall mark(state);
  if (::close(fd.release()) != 0) throw_target_errno(errno, path, "close failed");
}

void set_mode(const FileDescriptor& fd, mode_t mode, const std::string& path, LifelineState* state) {
  TargetCall mark(state);
  if (::fchmod(fd.get(), mode) != 0) throw_target_errno(errno, path, "cannot change its mode");
}

void sync_and_close(FileDescriptor fd, const std::string& path, LifelineState* state) {
  {
    TargetCall mark(state);
    if (::fsync(fd.get()) != 0) throw_target_errno(errno, path, "fsync failed");
  }
  close_file(std::move(fd), path, state);
}

std::string hex_of(crypto::Digest& digest) {
  std::array<std::byte, 32> value;
  digest.finish(value);
  return to_hex(value);
}

std::string read_up_to(const FileDescriptor& fd, std::size_t limit, const std::string& path, LifelineState* state) {
  std::string content(limit + 1, '\0');
  std::size_t done = 0;
  while (done < content.size()) {
    TargetCall mark(state);
    const ssize_t n = ::pread(fd.get(), content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_target_errno(errno, path, "read failed");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  content.resize(done);
  return content;
}

}  // namespace

std::optional<SmallFile> read_small_file(const Directory& directory, const std::string& name, std::size_t limit) {
  const auto path = directory.path_of(name);
  const auto fd = open_file(directory, name, O_RDONLY);
  if (!fd && (errno == ENOENT || errno == ESTALE)) return std::nullopt;
  if (!fd && errno == ELOOP) throw Fault(FaultKind::damaged, path + ": a symbolic link instead of a file");
  if (!fd) throw_target_errno(errno, path, "cannot open it");
  const auto status = status_of(fd, path, directory.state());
  SmallFile file;
  file.content = read_up_to(fd, limit, path, directory.state());
  if (file.content.size() > limit) throw Fault(FaultKind::damaged, path + ": longer than " + std::to_string(limit) + " bytes");
  file.modified_ns = static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
  return file;
}

void write_new_file(const Directory& directory, const std::string& name, std::string_view content, OnDisk when) {
  const auto path = directory.path_of(name);
  auto fd = open_file(directory, name, O_WRONLY | O_CREAT | O_EXCL);
  if (!fd) throw_target_errno(errno, path, "cannot make the file");
  try {
    write_all(fd, content, path, directory.state());
    if (when == OnDisk::now)
      sync_and_close(std::move(fd), path, directory.state());
    else
      close_file(std::move(fd), path, directory.state());
  } catch (...) {
    directory.try_remove_file(name);
    throw;
  }
}

bool overwrite_file(const Directory& directory, const std::string& name, std::string_view content) {
  const auto path = directory.path_of(name);
  auto fd = open_file(directory, name, O_WRONLY);
  if (!fd && (errno == ENOENT || errno == ESTALE)) return false;
  if (!fd) throw_target_errno(errno, path, "cannot open it");
  write_all(fd, content, path, directory.state());
  sync_and_close(std::move(fd), path, directory.state());
  return true;
}

std::string file_sha256(const Directory& directory, const std::string& name, std::uint64_t size,
                        const std::function<void()>& go_on) {
  const auto path = directory.path_of(name);
  const auto fd = open_file(directory, name, O_RDONLY);
  if (!fd && errno == ENOENT) throw Fault(FaultKind::damaged, path + ": is missing");
  if (!fd && errno == ELOOP) throw Fault(FaultKind::damaged, path + ": a symbolic link instead of a file");
  if (!fd) throw_target_errno(errno, path, "cannot open it");
  const auto there = static_cast<std::uint64_t>(status_of(fd, path, directory.state()).st_size);
  if (there != size)
    throw Fault(FaultKind::damaged,
                path + ": has " + std::to_string(there) + " bytes, the manifest says " + std::to_string(size));
  crypto::Digest digest(crypto::Hash::sha256);
  std::vector<std::byte> part(std::min<std::uint64_t>(size, 256u << 10));
  for (std::uint64_t at = 0; at < size;) {
    if (go_on) go_on();
    TargetCall mark(directory.state());
    const ssize_t n = ::pread(fd.get(), part.data(), std::min<std::uint64_t>(part.size(), size - at), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_target_errno(errno, path, "read failed");
    if (n == 0) throw Fault(FaultKind::damaged, path + ": ends at byte " + std::to_string(at));
    digest.update(std::span(part).first(static_cast<std::size_t>(n)));
    at += static_cast<std::uint64_t>(n);
  }
  return hex_of(digest);
}

std::string sha256_of(std::string_view content) {
  crypto::Digest digest(crypto::Hash::sha256);
  digest.update(std::as_bytes(std::span(content)));
  return hex_of(digest);
}

std::uint64_t sync_file(const Directory& directory, const std::string& name, std::optional<mode_t> mode) {
  const auto path = directory.path_of(name);
  auto fd = open_file(directory, name, O_WRONLY);  // some CIFS servers flush only what is open for writing
  if (!fd) throw_target_errno(errno, path, "cannot open it");
  const auto status = status_of(fd, path, directory.state());
  if (mode) set_mode(fd, *mode, path, directory.state());
  sync_and_close(std::move(fd), path, directory.state());
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace nasbackup::set
