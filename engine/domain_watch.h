// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Looks at a domain four times a second while its disks are copied, and fails the transfer when it cannot go on. A thread of its
// own, because libvirt's calls block. What `look` touches nobody else touches before end().
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "engine/transfer.h"

namespace nasbackup {

class DomainWatch {
 public:
  /// What `look` throws fails the transfer.
  DomainWatch(Transfer& transfer, std::function<void()> look);

  /// Ends the watch. Throws what it found, if anything.
  void end();

 private:
  void watch(const std::stop_token& stop);

  Transfer& transfer_;
  std::function<void()> look_;
  std::exception_ptr found_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it must not run before the rest is there
};

}  // namespace nasbackup
