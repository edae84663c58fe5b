// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// https://libvirt.org/html/libvirt-libvirt-domain.html
#include "engine/vm/domain.h"

#include <libvirt/virterror.h>

#include "engine/io/fault.h"

namespace nasbackup::vm {
namespace {

/// Takes over a string that libvirt allocated.
std::string take(char* text) {
  std::string copy = text;
  free(text);
  return copy;
}

std::string shut_off_reason(int reason) {
  switch (reason) {
    case VIR_DOMAIN_SHUTOFF_SHUTDOWN:
      return "shut down";
    case VIR_DOMAIN_SHUTOFF_DESTROYED:
      return "destroyed";
    case VIR_DOMAIN_SHUTOFF_CRASHED:
      return "QEMU crashed or was killed";
    case VIR_DOMAIN_SHUTOFF_MIGRATED:
      return "migrated to another host";
    case VIR_DOMAIN_SHUTOFF_SAVED:
      return "saved";
    case VIR_DOMAIN_SHUTOFF_FAILED:
      return "failed to start";
    default:
      return "shut off";
  }
}

bool means_gone(int code) { return code == VIR_ERR_NO_DOMAIN || code == VIR_ERR_OPERATION_INVALID; }

}  // namespace

Domain::Domain(Connection connection, virDomainPtr domain)
    : connection_(std::move(connection)), domain_(domain, [](virDomainPtr d) { virDomainFree(d); }) {
  name_ = virDomainGetName(domain);
  char uuid[VIR_UUID_STRING_BUFLEN] = {};
  if (virDomainGetUUIDString(domain, uuid) < 0) throw_libvirt("domain " + name_, "has no UUID");
  uuid_ = uuid;
}

Domain Domain::by_name(const std::string& uri, const std::string& name) {
  Connection connection(uri);
  const virDomainPtr found = virDomainLookupByName(connection.get(), name.c_str());
  if (found != nullptr) return Domain(std::move(connection), found);
  if (last_error().code != VIR_ERR_NO_DOMAIN) throw_libvirt("domain " + name, "cannot be looked up");
  throw Fault(FaultKind::not_found, "domain " + name + ": libvirt (" + uri + ") has no domain of this name");
}

Domain Domain::by_uuid(const std::string& uri, const std::string& uuid) {
  Connection connection(uri);
  const virDomainPtr found = virDomainLookupByUUIDString(connection.get(), uuid.c_str());
  if (found != nullptr) return Domain(std::move(connection), found);
  if (last_error().code != VIR_ERR_NO_DOMAIN) throw_libvirt("domain " + uuid, "cannot be looked up");
  throw Fault(FaultKind::not_found, "domain " + uuid + ": libvirt (" + uri + ") has no domain of this UUID");
}

void Domain::reconnect() { *this = by_uuid(uri(), uuid_); }

DomainState Domain::state() const {
  int state = 0;
  int reason = 0;
  if (virDomainGetState(get(), &state, &reason, 0) < 0) {
    if (last_error().code == VIR_ERR_NO_DOMAIN) return {RunState::gone, "it does not exist any more"};
    throw_libvirt("domain " + name_, "cannot get its state");
  }
  DomainState now{RunState::running, "running"};
  if (state == VIR_DOMAIN_SHUTOFF) now = {RunState::shut_off, shut_off_reason(reason)};
  // <on_crash>preserve</on_crash>: QEMU stays, with its disks open, and is backed up as a paused one is.
  if (state == VIR_DOMAIN_CRASHED) now = {virDomainIsActive(get()) == 1 ? RunState::paused : RunState::shut_off, "crashed"};
  if (state == VIR_DOMAIN_PAUSED) now = {RunState::paused, "paused"};
  if (state == VIR_DOMAIN_PMSUSPENDED) now = {RunState::paused, "suspended by the guest"};
  now.io_error = state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_IOERROR;
  now.starting = state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_STARTING_UP;
  now.clean = state == VIR_DOMAIN_SHUTOFF && reason == VIR_DOMAIN_SHUTOFF_SHUTDOWN;
  return now;
}

int Domain::current_id() const {
  // virDomainGetID tells what was true when the domain was looked up.
  const virDomainPtr now = virDomainLookupByUUIDString(connection(), uuid_.c_str());
  if (now == nullptr) return -1;
  const unsigned id = virDomainGetID(now);
  virDomainFree(now);
  return static_cast<int>(id);
}

std::string Domain::xml() const {
  char* text = virDomainGetXMLDesc(get(), 0);
  if (text == nullptr) throw_libvirt("domain " + name_, "cannot get its XML");
  return take(text);
}

std::uint64_t Domain::disk_size(const std::string& target) const {
  virDomainBlockInfo info{};
  if (virDomainGetBlockInfo(get(), target.c_str(), &info, 0) < 0) {
    throw_libvirt("domain " + name_, "cannot get the size of disk " + target);
  }
  return info.capacity;
}

std::optional<std::string> Domain::backup_job() const {
  char* text = virDomainBackupGetXMLDesc(get(), 0);
  if (text != nullptr) return take(text);
  const int code = last_error().code;
  if (code == VIR_ERR_NO_DOMAIN_BACKUP || means_gone(code)) return std::nullopt;
  throw_libvirt("domain " + name_, "cannot ask for its backup job");
}

struct Domain::JobStats {
  int operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;
  std::optional<std::uint64_t> scratch_used;
};

std::optional<Domain::JobStats> Domain::job_stats() const noexcept {
  int type = VIR_DOMAIN_JOB_NONE;
  int count = 0;
  virTypedParameterPtr values = nullptr;
  JobStats stats;
  if (virDomainGetJobStats(get(), &type, &values, &count, 0) < 0) {
    // libvirt 9.0, while it begins a backup job: "internal error: backup job data missing".
    if (last_error().message.find("backup job data missing") == std::string::npos) return std::nullopt;
    stats.operation = VIR_DOMAIN_JOB_OPERATION_BACKUP;
    return stats;
  }
  unsigned long long used = 0;
  virTypedParamsGetInt(values, count, VIR_DOMAIN_JOB_OPERATION, &stats.operation);
  if (virTypedParamsGetULLong(values, count, VIR_DOMAIN_JOB_DISK_TEMP_USED, &used) == 1) stats.scratch_used = used;
  virTypedParamsFree(values, count);
  if (type == VIR_DOMAIN_JOB_NONE) return std::nullopt;
  return stats;
}

std::optional<int> Domain::running_job() const noexcept {
  const std::optional<JobStats> stats = job_stats();
  if (!stats) return std::nullopt;
  return stats->operation;
}

std::optional<std::uint64_t> Domain::scratch_used() const noexcept {
  const std::optional<JobStats> stats = job_stats();
  return stats ? stats->scratch_used : std::nullopt;
}

}  // namespace nasbackup::vm
