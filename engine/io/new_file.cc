// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A file that appears whole; see new_file.h.
#include "engine/io/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"

namespace nasbackup {

NewFile::NewFile(std::string path, bool replace, LifelineState& lifeline, const HiddenFile::RunIsAlive& run_is_alive)
    : path_(std::move(path)), hidden_(path_, lifeline, run_is_alive), replace_(replace), lifeline_(lifeline) {
  look_at_existing();
}

NewFile::~NewFile() {
  const TargetCall mark(&lifeline_);
  existing_lock_.reset();
  existing_.reset();
}

void NewFile::look_at_existing() {
  const TargetCall mark(&lifeline_);
  struct stat info {};
  if (::lstat(path_.c_str(), &info) != 0) {
    if (errno == ENOENT) return;
    throw_target_errno(errno, path_, "stat");
  }
  if (!S_ISREG(info.st_mode)) throw Fault(FaultKind::failed, path_ + ": exists and is not a regular file");
  if (!replace_) throw Fault(FaultKind::failed, path_ + ": exists; write --force to replace it");
  existing_ = FileDescriptor(::open(path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!existing_) throw_target_errno(errno, path_, "open");
  existing_lock_.emplace(ImageLock::for_writing(existing_.get(), path_));
}

void NewFile::publish() {
  const TargetCall mark(&lifeline_);
  // Somebody else's new file is not overwritten; where the file system cannot promise that (NFS), the look before must do.
  const unsigned flags = replace_ ? 0 : RENAME_NOREPLACE;
  int result = ::renameat2(AT_FDCWD, hidden_path().c_str(), AT_FDCWD, path_.c_str(), flags);
  if (result != 0 && flags != 0 && (errno == EINVAL || errno == ENOSYS))
    result = std::rename(hidden_path().c_str(), path_.c_str());
  if (result != 0) throw_target_errno(errno, path_, "rename");
  hidden_.let_go();
  sync_directory();
}

void NewFile::sync_directory() const {
  const FileDescriptor directory(::open(hidden_.directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) throw_target_errno(errno, hidden_.directory(), "open");
  if (::fsync(directory.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    throw_target_errno(errno, hidden_.directory(), "fsync");
}

void write_new_file(const std::string& path, std::span<const std::byte> content, LifelineState& lifeline) {
  const TargetCall mark(&lifeline);
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) throw_target_errno(errno, path, "create");
  while (!content.empty()) {
    const ssize_t done = ::write(file.get(), content.data(), content.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw_target_errno(errno, path, "write");
    content = content.subspan(static_cast<std::size_t>(done));
  }
  if (::fsync(file.get()) != 0) throw_target_errno(errno, path, "fsync");
}

}  // namespace nasbackup
