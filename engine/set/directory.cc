// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Directory; see directory.h.
#include "engine/set/directory.h"

#include <dirent.h>
#include <fcntl.h>

#include <cstdio>
#include <exception>
#include <memory>

#include "engine/io/fault.h"

namespace nasbackup::set {

namespace {

constexpr int kOpenFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

int open_directory_at(int at, const char* name, int flags, LifelineState* state) noexcept {
  int fd = -1;
  do {
    TargetCall mark(state);
    fd = ::openat(at, name, flags);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

bool is_dot_or_dot_dot(const char* name) noexcept {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

struct CloseStream {
  void operator()(DIR* stream) const noexcept { ::closedir(stream); }
};
using Stream = std::unique_ptr<DIR, CloseStream>;

}  // namespace

Directory::Directory(FileDescriptor fd, std::string path, LifelineState* state)
    : fd_(std::move(fd)), path_(std::move(path)), state_(state) {}

Directory Directory::open(const std::string& path, LifelineState* state) {
  FileDescriptor fd(open_directory_at(AT_FDCWD, path.c_str(), kOpenFlags, state));
  if (!fd && errno == ENOENT) throw Fault(FaultKind::not_found, path + ": no such directory");
  if (!fd) throw_target_errno(errno, path, "cannot open the directory");
  return Directory(std::move(fd), path, state);
}

std::string Directory::path_of(const std::string& name) const { return path_.ends_with('/') ? path_ + name : path_ + '/' + name; }

Directory Directory::open_child(const std::string& name) const {
  FileDescriptor fd(open_directory_at(fd_.get(), name.c_str(), kOpenFlags | O_NOFOLLOW, state_));
  if (!fd) throw_target_errno(errno, path_of(name), "cannot open the directory");
  return Directory(std::move(fd), path_of(name), state_);
}

std::optional<Directory> Directory::find_child(const std::string& name) const {
  FileDescriptor fd(open_directory_at(fd_.get(), name.c_str(), kOpenFlags | O_NOFOLLOW, state_));
  if (fd) return Directory(std::move(fd), path_of(name), state_);
  // A symbolic link answers ENOTDIR or ELOOP; ESTALE is what NFS says of a directory that has just been removed.
  if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ESTALE) return std::nullopt;
  throw_target_errno(errno, path_of(name), "cannot open the directory");
}

bool Directory::make_child(const std::string& name) const {
  TargetCall mark(state_);
  if (::mkdirat(fd_.get(), name.c_str(), 0700) == 0) return true;
  if (errno == EEXIST) return false;
  throw_target_errno(errno, path_of(name), "cannot make the directory");
}

std::optional<struct stat> Directory::stat(const std::string& name) const {
  struct stat status {};
  TargetCall mark(state_);
  if (::fstatat(fd_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) return status;
  if (errno == ENOENT || errno == ESTALE) return std::nullopt;
  throw_target_errno(errno, path_of(name), "cannot look at it");
}

std::vector<std::string> Directory::names() const {
  // A second open instead of dup(): the position in the directory belongs to the open file.
  FileDescriptor fd(open_directory_at(fd_.get(), ".", kOpenFlags, state_));
  if (!fd) throw_target_errno(errno, path_, "cannot read the directory");
  Stream stream(::fdopendir(fd.get()));
  if (stream == nullptr) throw_target_errno(errno, path_, "cannot read the directory");
  fd.release();

  std::vector<std::string> names;
  for (;;) {
    TargetCall mark(state_);
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    if (is_dot_or_dot_dot(entry->d_name)) continue;
    if (names.size() == kMaxEntries) throw Fault(FaultKind::failed, path_ + ": more than 100000 names in one directory");
    names.emplace_back(entry->d_name);
  }
  if (errno != 0) throw_target_errno(errno, path_, "cannot read the directory");
  return names;
}

bool Directory::sync() const {
  TargetCall mark(state_);
  if (::fsync(fd_.get()) == 0) return true;
  if (errno == EINVAL || errno == ENOTSUP || errno == ENOSYS) return false;
  throw_target_errno(errno, path_, "fsync of the directory failed");
}

int Directory::try_rename(const std::string& from, const Directory& to_directory, const std::string& to) const noexcept {
  TargetCall mark(state_);
  return ::renameat(fd_.get(), from.c_str(), to_directory.fd_.get(), to.c_str()) == 0 ? 0 : errno;
}

int Directory::try_remove_file(const std::string& name) const noexcept {
  TargetCall mark(state_);
  return ::unlinkat(fd_.get(), name.c_str(), 0) == 0 ? 0 : errno;
}

int Directory::try_remove_directory(const std::string& name) const noexcept {
  TargetCall mark(state_);
  return ::unlinkat(fd_.get(), name.c_str(), AT_REMOVEDIR) == 0 ? 0 : errno;
}

int try_remove_flat_tree(const Directory& parent, const std::string& name) noexcept {
  try {
    const auto directory = parent.find_child(name);
    if (!directory) return 0;
    for (const auto& file : directory->names()) directory->try_remove_file(file);
  } catch (const std::exception&) {
    return EIO;  // the directory cannot be read; what is in it stays
  }
  const int error = parent.try_remove_directory(name);
  return error == ENOENT ? 0 : error;
}

}  // namespace nasbackup::set
