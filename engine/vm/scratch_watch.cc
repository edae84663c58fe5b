// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See scratch_room.h for the rule.
#include "engine/vm/scratch_watch.h"

#include <cerrno>
#include <utility>

#include <sys/statvfs.h>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "engine/vm/job_end.h"

namespace nasbackup::vm {
namespace {

constexpr std::chrono::milliseconds kLookEvery{25};

}  // namespace

ScratchRoom scratch_room_of(const std::string& directory) {
  struct statvfs room {};
  if (statvfs(directory.c_str(), &room) != 0) throw_source_errno(errno, "scratch directory " + directory, "statvfs");
  return {room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize, 0, 0};
}

ScratchWatch::ScratchWatch(const Domain& domain, std::string socket, std::string directory, std::uint64_t worst_case,
                           LifelineState& state)
    : domain_(Domain::by_uuid(domain.uri(), domain.uuid())),
      socket_(std::move(socket)),
      directory_(std::move(directory)),
      worst_case_(worst_case),
      state_(state),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

ScratchWatch::~ScratchWatch() { thread_.request_stop(); }

ScratchRoom ScratchWatch::room() const { return {total_.load(), free_.load(), used_.load(), worst_case_}; }

bool ScratchWatch::pause(const std::stop_token& stop, std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

std::uint64_t ScratchWatch::fill_rate(std::uint64_t free_now) {
  const Look now{monotonic_ns(), free_now};
  const Look then = std::exchange(looks_[next_look_], now);
  next_look_ = (next_look_ + 1) % looks_.size();
  if (then.time_ns == 0 || then.free_bytes <= now.free_bytes || now.time_ns <= then.time_ns) return 0;
  const double seconds = static_cast<double>(now.time_ns - then.time_ns) / 1e9;
  return static_cast<std::uint64_t>(static_cast<double>(then.free_bytes - now.free_bytes) / seconds);
}

ScratchVerdict ScratchWatch::look() {
  const ScratchRoom now = scratch_room_of(directory_);
  free_.store(now.free_bytes);
  total_.store(now.total_bytes);
  return judge_scratch(room(), fill_rate(now.free_bytes));
}

void ScratchWatch::abort_until_gone(const std::stop_token& stop) {
  do {
    try {
      if (!domain_.connected()) domain_.reconnect();
      if (can_end_job(state_) && abort_own_job(domain_, socket_, std::chrono::milliseconds(500))) return;
    } catch (const Fault&) {
      // libvirtd is away for the moment; there is nobody else who could end the job, so try again.
    }
  } while (pause(stop, kLookEvery));
}

void ScratchWatch::run(const std::stop_token& stop) {
  do {
    ScratchVerdict verdict = ScratchVerdict::ample;
    try {
      verdict = look();
    } catch (const Fault&) {
      continue;  // a statvfs that fails says nothing about the room; the job's own end is noticed elsewhere
    }
    verdict_.store(verdict);
    if (verdict == ScratchVerdict::give_up) return abort_until_gone(stop);
  } while (pause(stop, kLookEvery));
}

}  // namespace nasbackup::vm
