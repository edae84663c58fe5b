// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The page that a job shares with its watcher (nasbackup::Lifeline). Plain atomics and fixed arrays only, because it lives
// in memory shared across fork() and must be readable after the writer died at any instruction.
// Thread-safety: every member may be touched by any thread of any process that maps it; the strings are written before
// the flag that makes them valid, by one thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <ctime>

namespace nasbackup {

inline std::int64_t monotonic_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

struct LifelineState {
  /// One slot for each call on the target under way: CLOCK_MONOTONIC nanoseconds of its start, 0 when free.
  std::array<std::atomic<std::int64_t>, 64> target_calls{};

  // Progress; see nasbackup::Progress.
  std::atomic<const char*> phase{"starting"};  ///< a string literal: parent and child of a fork share the program text
  std::atomic<std::uint64_t> total_bytes{0};
  std::atomic<std::uint64_t> done_bytes{0};
  std::atomic<std::uint64_t> read_bytes{0};
  std::atomic<std::uint64_t> stored_bytes{0};

  // What the job holds of a guest. The strings below are complete before a flag is set.
  std::atomic<bool> guest_frozen{false};  ///< set before the freeze is asked for, cleared after the agent said thawed
  std::atomic<bool> guest_job{false};     ///< set before the backup job is asked for, cleared when it is gone
  std::atomic<bool> checkpoint{false};    ///< set before it is asked for, cleared when the backup is published or it is gone
  std::array<char, 256> connect_uri{};
  std::array<char, 40> domain_uuid{};
  std::array<char, 128> checkpoint_name{};
  std::array<char, 128> job_socket{};  ///< path of the NBD socket: it tells our job from a foreign one

  // Handshakes with the job's NBD server in which it may be waiting for us (class Handshake).
  std::atomic<bool> job_ends{false};  ///< no other is begun
  std::atomic<unsigned> handshakes{0};
  std::atomic<std::int64_t> last_handshake_ns{0};  ///< when the last one was begun

  std::atomic<bool> partial_set{false};    ///< set before the partial set is made, cleared when it is published or gone
  std::atomic<bool> published_set{false};  ///< set when it is published, for good

  // The run's identity.
  std::array<char, 24> run_id{};
  int lock_fd = -1;  ///< of /run/nasbackup/run-<id>.lock; one open file, shared by fork()
};

/// Marks one call on the target (or on a source file, which may lie on the same kind of file system) as under way for as long as
/// it lives.
class TargetCall {
 public:
  explicit TargetCall(LifelineState* state) noexcept {
    if (state == nullptr) return;
    const std::int64_t now = monotonic_ns();
    for (auto& slot : state->target_calls) {
      std::int64_t idle = 0;
      if (slot.compare_exchange_strong(idle, now)) {
        slot_ = &slot;
        return;
      }
    }
  }
  ~TargetCall() {
    if (slot_ != nullptr) slot_->store(0);
  }
  TargetCall(const TargetCall&) = delete;
  TargetCall& operator=(const TargetCall&) = delete;

 private:
  std::atomic<std::int64_t>* slot_ = nullptr;
};

/// Marks a handshake with the job's NBD server as under way. QEMU 7.2 stands still for ever, guest and all, when its NBD server
/// is stopped while it waits for a client's part of a handshake, and nothing frees it (seen with 7.2.22; ARCHITECTURE.md).
class Handshake {
 public:
  /// One that comes when the job is about to be ended is refused, and must not be begun.
  explicit Handshake(LifelineState* state) noexcept : state_(state) {
    if (state == nullptr) return;
    state->last_handshake_ns.store(monotonic_ns());
    ++state->handshakes;
    refused_ = state->job_ends.load();
    if (refused_) over();
  }
  ~Handshake() { over(); }
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;

  bool refused() const noexcept { return refused_; }

 private:
  void over() noexcept {
    if (state_ != nullptr) --state_->handshakes;
    state_ = nullptr;
  }
  LifelineState* state_;
  bool refused_ = false;
};

/// From when on the job can be ended, once job_ends is set: CLOCK_MONOTONIC nanoseconds, 0 for now. Of a handshake that nobody
/// goes on with QEMU itself hangs up after ten seconds.
inline std::int64_t job_can_end_at(const LifelineState& state) noexcept {
  constexpr std::int64_t kLongestHandshake = 12'000'000'000;
  return state.handshakes.load() == 0 ? 0 : state.last_handshake_ns.load() + kLongestHandshake;
}

}  // namespace nasbackup
