// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Watches the scratch space of a running job and aborts the job before a guest write can fail.
//
// It has a thread and a libvirt connection of its own, and must: a guest can write a gigabyte in a second, so the look
// has to come every few milliseconds and the abort may not wait until somebody else's libvirt call has come back.
// libvirt's block threshold event would need libvirt's event loop and come no sooner.
// Thread-safety: all functions may be called from any thread.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "engine/io/lifeline_state.h"
#include "engine/vm/domain.h"
#include "engine/vm/scratch_room.h"

namespace nasbackup::vm {

/// What statvfs says of the file system that holds `directory`. Fault(source) when it cannot.
ScratchRoom scratch_room_of(const std::string& directory);

class ScratchWatch {
 public:
  /// `domain` is only read for its name; the watch opens its own.
  ScratchWatch(const Domain& domain, std::string socket, std::string directory, std::uint64_t worst_case, LifelineState& state);
  ~ScratchWatch();
  ScratchWatch(const ScratchWatch&) = delete;
  ScratchWatch& operator=(const ScratchWatch&) = delete;

  /// As of the last look; give_up stays once it was said.
  ScratchVerdict verdict() const noexcept { return verdict_.load(); }
  ScratchRoom room() const;
  void note_used(std::uint64_t bytes) noexcept { used_.store(bytes); }
  const std::string& directory() const noexcept { return directory_; }

 private:
  void run(const std::stop_token& stop);
  ScratchVerdict look();
  std::uint64_t fill_rate(std::uint64_t free_now);
  void abort_until_gone(const std::stop_token& stop);
  bool pause(const std::stop_token& stop, std::chrono::milliseconds time);

  Domain domain_;
  const std::string socket_;
  const std::string directory_;
  const std::uint64_t worst_case_;
  LifelineState& state_;
  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::uint64_t> free_{0};
  std::atomic<std::uint64_t> total_{0};
  std::atomic<ScratchVerdict> verdict_{ScratchVerdict::ample};

  // Of the thread alone.
  struct Look {
    std::int64_t time_ns = 0;
    std::uint64_t free_bytes = 0;
  };
  std::array<Look, 4> looks_{};  ///< the last tenth of a second: one look alone would take a burst for a trend
  std::size_t next_look_ = 0;

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  ///< last: it must not run before the rest is there
};

}  // namespace nasbackup::vm
