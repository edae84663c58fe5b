// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A libvirt domain: found by its exact name, asked for its state, XML and backup job.
//
// Thread-safety: one Domain is used by one thread at a time; two threads open one each. Calls block for as long as
// libvirtd takes. Every call throws Fault(source) when libvirt fails, unless its comment says otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <libvirt/libvirt.h>

#include "engine/vm/connection.h"
#include "engine/vm/domain_xml.h"
#include "engine/vm/pool_volumes.h"

namespace nasbackup::vm {

enum class RunState { running, paused, shut_off, gone };

struct DomainState {
  RunState state = RunState::gone;
  std::string reason;     ///< in words: "crashed", "shut down", …
  bool starting = false;  ///< paused because libvirt is about to start it, which may fail
  bool clean = false;     ///< shut off by its guest
  bool io_error = false;  ///< paused by QEMU because a disk failed
  bool active() const noexcept { return state == RunState::running || state == RunState::paused; }
};

class Domain {
 public:
  /// Fault(not_found) when libvirt has no domain of exactly that name.
  static Domain by_name(const std::string& uri, const std::string& name);
  static Domain by_uuid(const std::string& uri, const std::string& uuid);

  const std::string& name() const noexcept { return name_; }
  const std::string& uuid() const noexcept { return uuid_; }
  const std::string& uri() const noexcept { return connection_.uri(); }
  virDomainPtr get() const noexcept { return domain_.get(); }
  virConnectPtr connection() const noexcept { return connection_.get(); }

  DomainState state() const;
  /// The number of the running instance, asked for now; -1 when it does not run.
  int current_id() const;
  /// True when its memory was saved, and it will go on from there when it is started.
  bool has_saved_memory() const noexcept { return virDomainHasManagedSaveImage(get(), 0) == 1; }
  /// XML, live while it runs, without security information (secrets).
  std::string xml() const;
  DomainDescription describe() const { return parse_domain(with_volume_paths(connection(), xml())); }
  /// Bytes of a disk as the guest sees it.
  std::uint64_t disk_size(const std::string& target) const;
  /// The XML of the backup job that runs; nothing when there is none or the domain is not there any more.
  std::optional<std::string> backup_job() const;
  /// VIR_DOMAIN_JOB_OPERATION_… of the job that libvirt runs for the domain, a backup that just begins included; nothing
  /// when there is none.
  std::optional<int> running_job() const noexcept;
  /// Bytes that the running job has put aside for the guest's writes (disk_temp_used).
  std::optional<std::uint64_t> scratch_used() const noexcept;

  /// False once libvirtd has closed the connection.
  bool connected() const noexcept { return connection_.alive(); }
  /// Opens a new connection to the same daemon and finds the same domain there.
  void reconnect();

 private:
  struct JobStats;
  std::optional<JobStats> job_stats() const noexcept;
  Domain(Connection connection, virDomainPtr domain);

  Connection connection_;
  std::shared_ptr<virDomain> domain_;
  std::string name_;
  std::string uuid_;
};

}  // namespace nasbackup::vm
