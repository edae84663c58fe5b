// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Who came first, among the backups of this host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace nasbackup {

/// A place in the line of this host's backups, first come, first served: who may run is for the caller to say, by how many are
/// before it. The place is the process's, and free when that has ended, however it ends and whatever its children do; at most one
/// for each process. `run_directory` is for tests.
class HostQueue {
 public:
  /// Goes to the end of the line. Throws Error(failed), also when it is not root.
  explicit HostQueue(std::string run_directory = "");
  ~HostQueue();
  HostQueue(const HostQueue&) = delete;
  HostQueue& operator=(const HostQueue&) = delete;

  /// How many that came earlier are still there, running or waiting.
  std::size_t before() const;

 private:
  void join();
  std::string directory_, path_;
  std::uint64_t number_ = 0;
  int file_ = -1;
};

}  // namespace nasbackup
