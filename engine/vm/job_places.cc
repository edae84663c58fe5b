// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// libvirt names the directory in virDomainDefGetShortName / qemuDomainSetPrivatePaths.
#include "engine/vm/job_places.h"

#include <cerrno>
#include <filesystem>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io/fault.h"
#include "engine/io/run_lock.h"
#include "engine/vm/run_names.h"

namespace nasbackup::vm {
namespace {

namespace fs = std::filesystem;

/// QEMU, which may be another user, must be able to walk through the runs' directory to its own one; it need not read it.
void make_run_directory_passable() {
  if (mkdir(kRunDirectory, 0711) != 0 && errno != EEXIST) throw_source_errno(errno, kRunDirectory, "mkdir");
  struct stat now {};
  if (stat(kRunDirectory, &now) != 0) throw_source_errno(errno, kRunDirectory, "stat");
  const mode_t passable = (now.st_mode & 07777) | S_IXGRP | S_IXOTH;
  if (passable != (now.st_mode & 07777) && chmod(kRunDirectory, passable) != 0) throw_source_errno(errno, kRunDirectory, "chmod");
}

std::string make_private_directory(const DomainDescription& domain, const std::string& run_id) {
  make_run_directory_passable();
  const std::string path = std::string(kRunDirectory) + "/" + run_id;
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) throw_source_errno(errno, path, "mkdir");
  if (chown(path.c_str(), domain.uid, domain.gid) != 0) throw_source_errno(errno, path, "chown to QEMU's user");
  return path;
}

std::string checked_scratch_directory(const std::string& path) {
  struct stat found {};
  if (stat(path.c_str(), &found) != 0) throw_source_errno(errno, "scratch directory " + path, "stat");
  if (!S_ISDIR(found.st_mode)) throw Fault(FaultKind::source, "scratch directory " + path + ": is not a directory");
  return fs::absolute(path).lexically_normal().string();
}

}  // namespace

std::string domain_directory(int id, const std::string& root) {
  const std::string prefix = fmt::format("domain-{}-", id);
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(root, error)) {
    if (entry.path().filename().string().starts_with(prefix)) return entry.path().string();
  }
  return {};
}

JobPlaces choose_job_places(const DomainDescription& domain, const std::string& run_id, const std::string& scratch_dir) {
  JobPlaces places;
  if (!scratch_dir.empty()) places.scratch_dir = checked_scratch_directory(scratch_dir);
  const std::string own = domain_directory(domain.id);
  places.socket = own + "/" + socket_name(run_id);
  if (own.empty() || places.socket.size() > kLongestSocketPath) {
    places.private_dir = make_private_directory(domain, run_id);
    places.socket = places.private_dir + "/" + socket_name(run_id);
  }
  if (places.socket.size() > kLongestSocketPath) {
    throw Fault(FaultKind::source, fmt::format("backup socket: path of {} bytes is too long, at most {} are possible: {}",
                                               places.socket.size(), kLongestSocketPath, places.socket));
  }
  if (places.scratch_dir.empty()) places.scratch_dir = own.empty() ? places.private_dir : own;
  return places;
}

void remove_job_places(const JobPlaces& places, const std::string& run_id) noexcept {
  std::error_code ignored;
  if (!places.socket.empty()) fs::remove(places.socket, ignored);
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(places.scratch_dir, ignored)) {
      if (run_id_in(entry.path().string()) == run_id) fs::remove(entry.path(), ignored);
    }
  } catch (const std::exception&) {
    // The next run sweeps what could not be listed now.
  }
  if (!places.private_dir.empty()) fs::remove_all(places.private_dir, ignored);
}

}  // namespace nasbackup::vm
