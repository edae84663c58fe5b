// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One pull-mode backup job of libvirt: begun (guest frozen meanwhile, if wished), watched, ended.
//
// Thread-safety: one object is used by one thread at a time; its scratch watch has a thread inside. Everything blocks for
// as long as libvirtd takes. Whoever watches the process sees in the LifelineState what is held of the guest, set before
// it is asked for and cleared when it is given back.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/job_socket.h"
#include "engine/io/lifeline_state.h"
#include "engine/vm/domain.h"
#include "engine/vm/freeze.h"
#include "engine/vm/job_places.h"
#include "engine/vm/scratch_watch.h"

namespace nasbackup::vm {

struct PullJobOptions {
  std::string run_id;       ///< 16 hexadecimal digits
  std::string scratch_dir;  ///< empty: QEMU's own directory of the domain
  bool quiesce = false;
  std::chrono::seconds quiesce_timeout{10};
  std::string checkpoint;                         ///< created with the job; empty: none
  std::map<std::string, std::string> since = {};  ///< by target: the checkpoint since which the disk's changes are exported
};

/// A disk as the job hands it out.
struct JobExport {
  DomainDisk disk;
  std::uint64_t size = 0;  ///< bytes, as libvirt says
  JobSocket socket;
  std::string uri;     ///< the same as a URI, nbd+unix:///vda?socket=…
  std::string bitmap;  ///< the NBD context that tells what changed; empty: the disk is exported as a whole
};

/// What check() found that does not end the job.
struct JobCondition {
  bool scratch_low = false;  ///< lift the limiter: the job must end soon
  ScratchRoom room;
};

class PullJob {
 public:
  /// Begins the job. Fault(source): the domain does not run, a job (ours or not) runs already, too little scratch room,
  /// libvirt refuses, the guest could not be thawed. What was done until then is undone.
  static std::unique_ptr<PullJob> begin(Domain domain, const std::vector<DomainDisk>& disks, const PullJobOptions& options,
                                        LifelineState& state);
  /// end(), with errors swallowed: what could not be undone stays in the LifelineState for the guard.
  ~PullJob();
  PullJob(const PullJob&) = delete;
  PullJob& operator=(const PullJob&) = delete;

  const std::vector<JobExport>& exports() const noexcept { return exports_; }
  const std::string& socket() const noexcept { return places_.socket; }
  const std::vector<std::string>& warnings() const noexcept { return warnings_; }
  /// How long the guest's file systems were frozen; zero when they were not.
  std::chrono::nanoseconds frozen_for() const noexcept { return freeze_.frozen_for(); }
  Domain& domain() noexcept { return domain_; }

  /// Looks whether the job still runs; to be called a few times a second while it is read, and at once when a read fails:
  /// a disconnected export usually means that the job has ended. Fault(source) tells why it cannot go on: guest shut
  /// down, QEMU killed, job ended by somebody, scratch nearly full, libvirtd away for more than ten seconds.
  JobCondition check();

  /// Whether the checkpoint stays is decided from now on by whether the backup is there, and no longer by whoever watches us: to
  /// be called before it is published, where somebody will look.
  void entrust_checkpoint() noexcept { state_.checkpoint.store(false); }
  /// What was read is safe: the checkpoint stays. Without this it goes with the job.
  void keep_checkpoint() noexcept {
    state_.checkpoint.store(false);
    has_checkpoint_ = false;
  }

  /// Ends the job and removes what it left. Idempotent. Fault(source) when the job cannot be ended. An agent that never
  /// answered the freeze nor the thaw is a warning: the data is good, guest_frozen stays set, and the guard goes on asking.
  void end();

 private:
  PullJob(Domain domain, const PullJobOptions& options, LifelineState& state);
  void refuse_unfit_domain(const DomainDescription& description);
  void prepare(const DomainDescription& description, const std::vector<DomainDisk>& disks);
  void publish_identity();
  void refuse_known_checkpoint();
  void ask_libvirt(const DomainDescription& description, const std::vector<DomainDisk>& disks);
  void delete_checkpoint_quietly() noexcept;
  void thaw_or_fail();
  void note_exports();
  void check_domain();
  void check_own_job();
  void tolerate_lost_libvirt();
  void retry_owed_thaw();
  void look_at_used_scratch();
  bool end_quietly() noexcept;

  Domain domain_;
  const PullJobOptions options_;
  LifelineState& state_;
  GuestFreeze freeze_;
  JobPlaces places_;
  int domain_id_ = -1;
  bool paused_ = false;  ///< when the job began
  std::uint64_t worst_case_ = 0;
  std::vector<JobExport> exports_;
  std::vector<std::string> warnings_;
  std::unique_ptr<ScratchWatch> watch_;
  std::int64_t lost_since_ns_ = 0;
  std::int64_t next_thaw_ns_ = 0;
  std::int64_t next_used_ns_ = 0;
  bool has_checkpoint_ = false;  ///< it was asked for, and is not to be kept as yet
  bool begun_ = false;           ///< the places exist or the job was asked for: there is something to undo
};

}  // namespace nasbackup::vm
