// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/set/faulty_calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <filesystem>

namespace nasbackup::set {

namespace {

FaultyCalls* armed = nullptr;

std::string path_of(int fd) {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), ignored);
}

/// True when this call is the one that fails; errno is set then.
bool fails(const std::string& call, bool is_rename = false) {
  if (armed == nullptr) return false;
  FaultyCalls& calls = *armed;
  if (calls.before) {
    armed = nullptr;  // what it looks at is not counted
    calls.before(call);
    armed = &calls;
  }
  if (calls.only_renames && !is_rename) return false;
  if (calls.count++ != calls.fail_at) return false;
  errno = calls.error;
  return true;
}

}  // namespace

void arm(FaultyCalls* calls) noexcept { armed = calls; }

}  // namespace nasbackup::set

using nasbackup::set::fails;
using nasbackup::set::path_of;

extern "C" {

int __real_openat64(int at, const char* path, int flags, ...);
int __wrap_openat64(int at, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fails(std::string("openat ") + path) ? -1 : __real_openat64(at, path, flags, mode);
}

int __real_mkdirat(int at, const char* path, mode_t mode);
int __wrap_mkdirat(int at, const char* path, mode_t mode) {
  return fails(std::string("mkdirat ") + path) ? -1 : __real_mkdirat(at, path, mode);
}

int __real_unlinkat(int at, const char* path, int flags);
int __wrap_unlinkat(int at, const char* path, int flags) {
  return fails(std::string("unlinkat ") + path) ? -1 : __real_unlinkat(at, path, flags);
}

int __real_renameat(int from_at, const char* from, int to_at, const char* to);
int __wrap_renameat(int from_at, const char* from, int to_at, const char* to) {
  if (!fails(std::string("renameat ") + from + " " + to, true)) return __real_renameat(from_at, from, to_at, to);
  const int error = errno;
  if (nasbackup::set::armed->rename_happens) __real_renameat(from_at, from, to_at, to);
  errno = error;
  return -1;
}

int __real_fstatat64(int at, const char* path, struct stat* status, int flags);
int __wrap_fstatat64(int at, const char* path, struct stat* status, int flags) {
  return fails(std::string("fstatat ") + path) ? -1 : __real_fstatat64(at, path, status, flags);
}

int __real_fstat64(int fd, struct stat* status);
int __wrap_fstat64(int fd, struct stat* status) { return fails("fstat " + path_of(fd)) ? -1 : __real_fstat64(fd, status); }

int __real_fstatvfs64(int fd, struct statvfs* room);
int __wrap_fstatvfs64(int fd, struct statvfs* room) {
  return fails("fstatvfs " + path_of(fd)) ? -1 : __real_fstatvfs64(fd, room);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd) { return fails("fsync " + path_of(fd)) ? -1 : __real_fsync(fd); }

ssize_t __real_pwrite64(int fd, const void* bytes, size_t size, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void* bytes, size_t size, off_t offset) {
  return fails("pwrite " + path_of(fd)) ? -1 : __real_pwrite64(fd, bytes, size, offset);
}

ssize_t __real_pread64(int fd, void* bytes, size_t size, off_t offset);
ssize_t __wrap_pread64(int fd, void* bytes, size_t size, off_t offset) {
  return fails("pread " + path_of(fd)) ? -1 : __real_pread64(fd, bytes, size, offset);
}

struct dirent* __real_readdir64(DIR* stream);
struct dirent* __wrap_readdir64(DIR* stream) {
  return fails("readdir") ? nullptr : __real_readdir64(stream);
}

// A close that fails has closed all the same (Linux); NFS reports a full disk here.
int __real_close(int fd);
int __wrap_close(int fd) {
  const bool failing = fails("close " + path_of(fd));
  const int error = errno;
  const int result = __real_close(fd);
  if (!failing) return result;
  errno = error;
  return -1;
}
}
