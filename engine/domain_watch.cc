// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See domain_watch.h.
#include "engine/domain_watch.h"

#include <chrono>

namespace nasbackup {

DomainWatch::DomainWatch(Transfer& transfer, std::function<void()> look)
    : transfer_(transfer), look_(std::move(look)), thread_([this](const std::stop_token& stop) { watch(stop); }) {}

void DomainWatch::end() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  if (found_) std::rethrow_exception(found_);
}

void DomainWatch::watch(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, stop, std::chrono::milliseconds(250), [&] { return stop.stop_requested(); })) {
    try {
      look_();
    } catch (...) {
      found_ = std::current_exception();
      transfer_.fail(found_);
      return;
    }
  }
}

}  // namespace nasbackup
