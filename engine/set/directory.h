// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A directory of the target, held by descriptor, and the *at calls below it: no name given here is ever followed
// through a symbolic link, and every call is marked on the lifeline (ARCHITECTURE.md, "a hung NAS").
//
// Functions named try_… return 0 or an errno and leave the judgement to the caller; the others throw Fault with the
// path in the message. Several threads may use one Directory, except for close() and moving.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/io/lifeline_state.h"
#include "engine/io/file_descriptor.h"

namespace nasbackup::set {

class Directory {
 public:
  /// Opens a directory that the user named: here, and only here, links are followed. Throws Fault(not_found) when it
  /// does not exist.
  static Directory open(const std::string& path, LifelineState* state);

  /// Opens a directory in this one.
  Directory open_child(const std::string& name) const;
  /// The same, or nothing when there is none (no such name, a file, a symbolic link).
  std::optional<Directory> find_child(const std::string& name) const;

  const std::string& path() const noexcept { return path_; }
  std::string path_of(const std::string& name) const;
  LifelineState* state() const noexcept { return state_; }
  int fd() const noexcept { return fd_.get(); }

  /// Makes a directory of mode 0700; false when the name is taken.
  bool make_child(const std::string& name) const;
  /// What lstat says of a name, or nothing when it does not exist.
  std::optional<struct stat> stat(const std::string& name) const;
  /// The names in here but "." and "..", in no order. More than kMaxEntries: Fault(failed).
  std::vector<std::string> names() const;
  /// fsync. False when the file system cannot do that for a directory (EINVAL, ENOTSUP: some FUSE and CIFS servers).
  bool sync() const;

  int try_rename(const std::string& from, const Directory& to_directory, const std::string& to) const noexcept;
  int try_rename(const std::string& from, const std::string& to) const noexcept { return try_rename(from, *this, to); }
  int try_remove_file(const std::string& name) const noexcept;
  int try_remove_directory(const std::string& name) const noexcept;

  /// Gives the descriptor up: a CIFS server refuses to rename a directory that is open.
  void close() noexcept { FileDescriptor gone = std::move(fd_); }

  /// A directory with more names than this is not one of ours: reading it has an end.
  static constexpr std::size_t kMaxEntries = 100'000;

 private:
  Directory(FileDescriptor fd, std::string path, LifelineState* state);

  FileDescriptor fd_;
  std::string path_;
  LifelineState* state_;
};

/// Removes a directory and the files in it; what cannot be removed (a directory in it, a file that a hung process
/// still has open on NFS) stays, and the answer is the errno of it. 0 when nothing is left, also when nothing was.
int try_remove_flat_tree(const Directory& parent, const std::string& name) noexcept;

}  // namespace nasbackup::set
