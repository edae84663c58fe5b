// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The order: the job first, because ending it takes some milliseconds, while an agent that hangs can keep a thaw waiting for
// as long as it likes.
#include "engine/vm/guest_hold.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/io/fault.h"
#include "engine/io/run_lock.h"
#include "engine/vm/checkpoint.h"
#include "engine/vm/freeze.h"
#include "engine/vm/job_end.h"
#include "engine/vm/job_places.h"

namespace nasbackup::vm {
namespace {

using Clock = std::chrono::steady_clock;

/// Requests that the dead job had sent may still wait inside libvirtd: a freeze that is carried out after our thaw, a job
/// that begins after we found none. So once all is given back, it is looked at again after this time.
constexpr std::chrono::milliseconds kSettleTime{1000};
constexpr std::chrono::milliseconds kTryAgainAfter{250};
constexpr std::chrono::milliseconds kEndPatience{500};
constexpr std::chrono::seconds kAgentPatience{20};

/// What the working thread and the caller share. The thread touches nothing else: when libvirtd hangs it cannot be
/// joined, and then outlives the call (but not the process, which has nothing left to do).
struct Work {
  std::string uri;
  std::string uuid;
  std::string socket;
  std::string run_id;
  std::string checkpoint_name;
  std::int64_t job_can_end_at = 0;

  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  bool frozen = false;
  bool job = false;
  bool checkpoint = false;
  bool forgotten = false;  // the checkpoint, while its bitmaps wait for the domain to run again
  bool ended = false;
  std::string reason = "libvirtd does not answer";
};

void give_back(Work& work, bool Work::*what) {
  const std::lock_guard lock(work.mutex);
  work.*what = false;
}

void set_reason(Work& work, const std::string& reason) {
  const std::lock_guard lock(work.mutex);
  if (!reason.empty()) work.reason = reason;
}

/// The private directory is ours to remove; the domain's own directory is QEMU's.
JobPlaces places_of(const Work& work) {
  const std::string directory = work.socket.substr(0, work.socket.rfind('/'));
  const bool is_private = directory == std::string(kRunDirectory) + "/" + work.run_id;
  return {work.socket, directory, is_private ? directory : std::string()};
}

/// What was held when the work began: it is looked at again although it was given back.
struct Held {
  bool frozen = false;
  bool job = false;
  bool checkpoint = false;
  bool any() const noexcept { return frozen || job || checkpoint; }
};

/// After the job, which uses it. Of a domain that does not run libvirt can but forget it: the next run sees to the bitmaps.
bool drop_checkpoint(Domain& domain, Work& work) {
  const bool active = domain.state().active();
  if (!(active ? delete_checkpoint(domain, work.checkpoint_name) : forget_checkpoint(domain, work.checkpoint_name))) return false;
  give_back(work, &Work::checkpoint);
  const std::lock_guard lock(work.mutex);
  work.forgotten = !active;
  return true;
}

/// Of a worker that was killed in a handshake the kernel may not have closed the connection.
bool end_job(Domain& domain, Work& work) {
  const bool may_end = monotonic_ns() >= work.job_can_end_at;
  if (may_end && abort_own_job(domain, work.socket, kEndPatience)) return true;
  set_reason(work, may_end ? "libvirt does not end the job" : "a connection to it is just being made");
  return false;
}

/// True when nothing is held any more.
bool try_once(Work& work, const Held& held) {
  Domain domain = Domain::by_uuid(work.uri, work.uuid);
  const bool ended = !held.job || end_job(domain, work);
  if (ended && held.job) remove_job_places(places_of(work), work.run_id);
  if (ended) give_back(work, &Work::job);
  const bool dropped = !held.checkpoint || (ended && drop_checkpoint(domain, work));
  std::string answer;
  const bool thawed = !held.frozen || thaw_once(domain, kAgentPatience, &answer);
  set_reason(work, answer);
  if (thawed) give_back(work, &Work::frozen);
  return thawed && ended && dropped;
}

bool try_once_quietly(Work& work, const Held& held) {
  try {
    return try_once(work, held);
  } catch (const Fault& fault) {
    set_reason(work, fault.what());
    if (fault.kind() != FaultKind::not_found) return false;
    give_back(work, &Work::frozen);  // a domain that does not exist holds nothing
    give_back(work, &Work::job);
    give_back(work, &Work::checkpoint);
    return true;
  } catch (const std::exception& error) {
    set_reason(work, error.what());
    return false;
  }
}

void work_until(Work& work, const Held& held, Clock::time_point end) {
  while (Clock::now() < end) {
    if (!try_once_quietly(work, held)) {
      std::this_thread::sleep_for(kTryAgainAfter);
      continue;
    }
    if (Clock::now() + kSettleTime >= end) break;
    std::this_thread::sleep_for(kSettleTime);
    if (try_once_quietly(work, held)) break;
  }
  const std::lock_guard lock(work.mutex);
  work.ended = true;
  work.changed.notify_all();
}

std::string what_is_held(const Work& work) {
  if (!work.frozen && !work.job && !work.checkpoint) return {};
  std::string text = work.frozen ? "guest frozen" : "";
  if (work.job) text += text.empty() ? "backup job" : " and backup job";
  if (work.checkpoint) text += (text.empty() ? "checkpoint " : " and checkpoint ") + work.checkpoint_name;
  return text + ": domain " + work.uuid + ": " + work.reason;
}

std::shared_ptr<Work> read_state(LifelineState& state) {
  auto work = std::make_shared<Work>();
  work->uri = state.connect_uri.data();
  work->uuid = state.domain_uuid.data();
  work->socket = state.job_socket.data();
  work->run_id = state.run_id.data();
  work->checkpoint_name = state.checkpoint_name.data();
  work->checkpoint = state.checkpoint.load();
  work->frozen = state.guest_frozen.load();
  work->job = state.guest_job.load();
  state.job_ends.store(true);
  work->job_can_end_at = job_can_end_at(state);
  return work;
}

}  // namespace

std::string release(LifelineState& state, std::chrono::seconds deadline) noexcept {
  if (!Held{state.guest_frozen, state.guest_job, state.checkpoint}.any()) return {};
  try {
    const std::shared_ptr<Work> work = read_state(state);
    const Clock::time_point end = Clock::now() + deadline;
    const Held held{work->frozen, work->job, work->checkpoint};
    std::thread([work, end, held] { work_until(*work, held, end); }).detach();
    std::unique_lock lock(work->mutex);
    work->changed.wait_until(lock, end + std::chrono::milliseconds(200), [&] { return work->ended; });
    if (!work->frozen) state.guest_frozen.store(false);
    if (!work->job) state.guest_job.store(false);
    if (!work->checkpoint && !work->forgotten) state.checkpoint.store(false);
    return what_is_held(*work);
  } catch (const std::exception& error) {
    return std::string("guest: cannot be released: ") + error.what();
  }
}

}  // namespace nasbackup::vm
