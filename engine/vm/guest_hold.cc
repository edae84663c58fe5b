// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The order: thaw first, it is what the guest feels.
#include "engine/vm/guest_hold.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/io/fault.h"
#include "engine/vm/freeze.h"
#include "engine/vm/job_end.h"
#include "engine/vm/job_places.h"
#include "engine/vm/run_names.h"

namespace nasbackup::vm {
namespace {

using Clock = std::chrono::steady_clock;

bool held(const LifelineState& state) noexcept { return state.guest_frozen.load() || state.guest_job.load(); }

/// What the working thread and the caller share. It outlives both, because a thread inside a libvirtd that hangs cannot
/// be joined; the LifelineState belongs to the caller's process and stays mapped until that ends.
struct Work {
  std::mutex mutex;
  std::condition_variable done_or_not;
  bool done = false;
  std::string reason = "libvirtd does not answer";
};

void set_reason(Work& work, const std::string& reason) {
  const std::lock_guard lock(work.mutex);
  work.reason = reason;
}

std::string socket_directory(const std::string& socket) { return socket.substr(0, socket.rfind('/')); }

/// The private directory is ours to remove; the domain's own directory is QEMU's.
JobPlaces places_of(const std::string& socket, const std::string& run_id) {
  const std::string directory = socket_directory(socket);
  const bool is_private = directory == std::string(kRunDirectory) + "/" + run_id;
  return {socket, directory, is_private ? directory : std::string()};
}

void try_once(LifelineState& state, Work& work) {
  const std::string socket = state.job_socket.data();
  Domain domain = Domain::by_uuid(state.connect_uri.data(), state.domain_uuid.data());
  std::string answer;
  if (state.guest_frozen.load() && thaw_once(domain, std::chrono::seconds(5), &answer)) state.guest_frozen.store(false);
  if (!answer.empty()) set_reason(work, answer);
  if (state.guest_job.load() && abort_own_job(domain, socket, std::chrono::milliseconds(1000))) {
    remove_job_places(places_of(socket, state.run_id.data()), state.run_id.data());
    state.guest_job.store(false);
  }
}

void work_until(LifelineState& state, const std::shared_ptr<Work>& work, Clock::time_point end) {
  while (held(state) && Clock::now() < end) {
    try {
      try_once(state, *work);
    } catch (const Fault& fault) {
      set_reason(*work, fault.what());
      if (fault.kind() == FaultKind::not_found) {  // a domain that does not exist holds nothing
        state.guest_frozen.store(false);
        state.guest_job.store(false);
      }
    } catch (const std::exception& error) {
      set_reason(*work, error.what());
    }
    if (held(state)) std::this_thread::sleep_for(std::chrono::milliseconds(250));
  }
  const std::lock_guard lock(work->mutex);
  work->done = true;
  work->done_or_not.notify_all();
}

std::string what_is_held(const LifelineState& state, const std::string& reason) {
  if (!held(state)) return {};
  std::string text = state.guest_frozen.load() ? "guest frozen" : "";
  if (state.guest_job.load()) text += text.empty() ? "backup job" : " and backup job";
  return text + " of domain " + state.domain_uuid.data() + ": " + reason;
}

}  // namespace

std::string release(LifelineState& state, std::chrono::seconds deadline) noexcept {
  if (!held(state)) return {};
  try {
    const auto work = std::make_shared<Work>();
    const Clock::time_point end = Clock::now() + deadline;
    std::thread([&state, work, end] { work_until(state, work, end); }).detach();
    std::unique_lock lock(work->mutex);
    work->done_or_not.wait_until(lock, end + std::chrono::milliseconds(200), [&] { return work->done; });
    return what_is_held(state, work->reason);
  } catch (const std::exception& error) {
    return std::string("guest: cannot be released: ") + error.what();
  }
}

}  // namespace nasbackup::vm
