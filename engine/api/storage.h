// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A network storage, mounted for one run.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "job.h"

namespace nasbackup {

/// A network storage as mount(8) takes it.
struct StorageOptions {
  std::string type;                  ///< nfs, cifs, ceph …; cifs gets the option nobrl
  std::string address;               ///< host:/export, //host/share …
  std::string options;               ///< separated by commas; empty: none
  std::chrono::seconds timeout{60};  ///< for mounting, and for unmounting
};

struct StorageUse {
  std::uint64_t total = 0;  ///< bytes
  std::uint64_t used = 0;
};

/// A storage mounted for one run: on a directory /tmp/csbackup.XXXXX, in a mount namespace of its own, so that the kernel
/// unmounts it when the run ends, however it ends. The calling thread enters that namespace for good, and only it and the threads
/// and processes that it starts from then on see the storage: construct it in a process made for the purpose. The directory is
/// removed by the lifeline's owner, or by the next run.
class MountedStorage {
 public:
  /// Throws Error(failed), "Failed to mount TYPE store: …", without what is secret in the options; nothing is left then.
  MountedStorage(const StorageOptions& options, const JobControl& control);
  /// unmount().
  ~MountedStorage();
  MountedStorage(const MountedStorage&) = delete;
  MountedStorage& operator=(const MountedStorage&) = delete;

  const std::string& path() const noexcept { return path_; }
  /// Throws Error(failed).
  StorageUse use() const;
  /// Tries several times, then lets the kernel do it when it can. What went wrong, in one line; empty: nothing.
  std::string unmount() noexcept;

 private:
  std::chrono::milliseconds timeout_;
  std::shared_ptr<Lifeline> lifeline_;
  std::string path_;
  bool mounted_ = false;
};

}  // namespace nasbackup
