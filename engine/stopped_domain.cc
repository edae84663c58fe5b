// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See stopped_domain.h.
#include "engine/stopped_domain.h"

#include <optional>

#include "engine/domain_watch.h"
#include "engine/vm/domain.h"

namespace nasbackup {

namespace {

/// Whether the domain is still shut off.
class StoppedDomain {
 public:
  explicit StoppedDomain(const BackupOptions& options) : connect_(options.connect), name_(options.vm) {}

  /// A start that may still fail, because of our locks, is none. False: nobody knows.
  bool look() {
    const std::optional<vm::DomainState> now = ask();
    if (now && now->active() && !now->starting) throw Fault(FaultKind::source, name_ + ": was started while its disks were read");
    return now.has_value();
  }

 private:
  std::optional<vm::DomainState> ask() noexcept {
    try {
      if (!domain_ || !domain_->connected()) domain_.emplace(vm::Domain::by_name(connect_, name_));
      const vm::DomainState now = domain_->state();
      if (now.state == vm::RunState::gone) domain_.reset();  // it may be defined again
      return now;
    } catch (const Fault& fault) {
      if (fault.kind() == FaultKind::not_found) return vm::DomainState{vm::RunState::gone, "not defined"};
      return std::nullopt;
    } catch (const std::exception&) {
      return std::nullopt;
    }
  }

  const std::string connect_, name_;
  std::optional<vm::Domain> domain_;
};

}  // namespace

/// A reader often learns first that something is wrong, but only libvirt knows why.
void copy_while_stopped(BackupRun& run) {
  StoppedDomain domain(run.options());
  DomainWatch watch(run.transfer(), [&] { domain.look(); });
  try {
    run.copy_disks();
  } catch (const Fault& fault) {
    watch.end();
    if (fault.kind() == FaultKind::source) domain.look();
    throw;
  }
  watch.end();
  if (!domain.look()) run.warn("libvirt: cannot be asked whether the VM was started while its disks were read");
}

}  // namespace nasbackup
