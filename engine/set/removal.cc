// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See removal.h.
#include "engine/set/removal.h"

#include <sys/stat.h>

#include <cerrno>

#include "engine/io/fault.h"
#include "engine/set/directory.h"
#include "engine/set/sweep.h"
#include "engine/set/target_lock.h"
#include "engine/set/vm_claim.h"

namespace nasbackup::set {

namespace {

constexpr int kMostDepth = 32;

void throw_if_stopped(const std::stop_token& stop) {
  if (stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped");
}

void check(int error, const std::string& path) {
  if (error != 0 && error != ENOENT) throw_target_errno(error, path, "cannot be removed");
}

/// Links are removed and never followed.
void remove_tree(const Directory& parent, const std::string& name, const std::stop_token& stop, int depth = 0) {
  if (depth > kMostDepth) throw Fault(FaultKind::failed, parent.path_of(name) + ": directories in directories, too deep");
  const auto status = parent.stat(name);
  if (!status) return;
  if (!S_ISDIR(status->st_mode)) return check(parent.try_remove_file(name), parent.path_of(name));
  {
    const Directory directory = parent.open_child(name);
    for (const std::string& inner : directory.names()) {
      throw_if_stopped(stop);
      remove_tree(directory, inner, stop, depth + 1);
    }
  }
  check(parent.try_remove_directory(name), parent.path_of(name));
}

/// A backup that is half removed must not look like one.
void remove_one(const Directory& vm, const RemovalOptions& options) {
  const std::string aside = kDeletingPrefix + options.run_id;
  check(vm.try_rename(options.name, aside), vm.path_of(options.name));
  vm.sync();
  remove_tree(vm, aside, options.stop);
  vm.sync();
}

}  // namespace

void remove_backup(const RemovalOptions& options, LifelineState* state) {
  const Directory root = Directory::open(options.dir, state);
  const auto vm = root.find_child(options.vm);
  if (!vm) return;
  const VmClaim claim(options.vm, options.run_id, options.run_directory);
  TargetLock lock(*vm, {options.run_id, options.run_directory, options.note, options.stop});
  // Partial sets of this backup are dead runs': a living one would have the lock.
  sweep(*vm, {options.run_id, options.run_directory, lock.now_on_target(), LockOptions{}.stale_after, options.note});
  remove_one(*vm, options);
}

}  // namespace nasbackup::set
