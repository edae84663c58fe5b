// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See work.h.
#include "tools/cloudstack/work.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace nasbackup::tools::cloudstack {

namespace {

// cloudstack-contract.md, 3.1.
constexpr unsigned long kLeastQemu = 4'002'000;
constexpr unsigned long kLeastLibvirt = 7'002'000;

std::string version_text(unsigned long version) {
  return fmt::format("{}.{}.{}", version / 1'000'000, version / 1'000 % 1'000, version % 1'000);
}

void refuse_old_hypervisor(const std::string& connect) {
  const std::string complaint = complaint_about(hypervisor_versions(connect));
  if (!complaint.empty()) throw Error(Outcome::source_problem, complaint);
}

Json done() { return {{"outcome", "done"}, {"exit_status", 0}}; }

Json tell_use(const MountedStorage& storage) {
  const StorageUse use = storage.use();
  Json result = done();
  result.update({{"mount_point", storage.path()}, {"total", use.total}, {"used", use.used}});
  return result;
}

/// What concerns the whole storage is told without its temporary directory.
std::string without_place(const std::string& line, const MountedStorage& storage) {
  const std::string place = storage.path() + ": ";
  return line.starts_with(place) ? line.substr(place.size()) : line;
}

Json back_up(Request request, const JobControl& control, const MountedStorage& storage) {
  request.backup.to = storage.path();
  Json result = perform(request, control);
  if (result.contains("error")) result["error"] = without_place(result["error"].get<std::string>(), storage);
  return result;
}

Json perform_unguarded(Request request, const JobControl& control, std::unique_ptr<MountedStorage>& storage) {
  // What can be refused is refused before anything is mounted.
  take_passphrases(request, control);
  const StorageTask task = request.storage->task;
  if (task == StorageTask::back_up) check_options(request.backup);
  refuse_old_hypervisor(request.backup.connect);
  if (task == StorageTask::nothing) return done();
  storage = std::make_unique<MountedStorage>(request.storage->storage, control);
  if (task == StorageTask::back_up) return back_up(std::move(request), control, *storage);
  if (task == StorageTask::tell_use) return tell_use(*storage);
  remove_backup(storage->path(), request.storage->path, control);
  return done();
}

}  // namespace

std::string complaint_about(const HypervisorVersions& versions) {
  if (versions.hypervisor >= kLeastQemu && versions.libvirt >= kLeastLibvirt) return {};
  return fmt::format(
      "Failure... Your QEMU version {} or libvirt version {} is unsupported. Consider upgrading to the required minimum version "
      "of QEMU: "
      "4.2.0 and Libvirt: 7.2.0",
      version_text(versions.hypervisor), version_text(versions.libvirt));
}

Json perform_call(const Request& request, const JobControl& control, std::unique_ptr<MountedStorage>& storage) {
  try {
    return perform_unguarded(request, control, storage);
  } catch (const Error& error) {
    return error_result(error.outcome(), error.what());
  }
}

}  // namespace nasbackup::tools::cloudstack
