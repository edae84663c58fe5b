// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Sweep; see sweep.h.
#include "engine/set/sweep.h"

#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>
#include <string_view>

#include "engine/io/run_lock.h"
#include "engine/set/lock_record.h"
#include "engine/set/small_file.h"
#include "engine/set/target_lock.h"

namespace nasbackup::set {

namespace {

constexpr std::size_t kRunIdLength = 16;

/// The run id that `name` carries behind `prefix`, or empty. Behind it may stand a dot and the name of the set to be.
std::string run_id_behind(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {};
  const auto rest = name.substr(prefix.size());
  const auto run_id = rest.substr(0, kRunIdLength);
  if (rest.size() > kRunIdLength && rest[kRunIdLength] != '.') return {};
  return is_run_id(run_id) ? std::string(run_id) : std::string();
}

class Sweeper {
 public:
  Sweeper(const Directory& vm, const SweepOptions& options) : vm_(vm), options_(options) {}

  void look_at(const std::string& name) const {
    if (const auto run_id = run_id_behind(name, kPartialPrefix); is_dead(run_id)) take_partial(name, run_id);
    if (!run_id_behind(name, kDeletingPrefix).empty()) report(name, try_remove_flat_tree(vm_, name));
    if (!run_id_behind(name, kStaleLockPrefix).empty()) vm_.try_remove_file(name);
    if (const auto run_id = run_id_behind(name, kPreparedLockPrefix); is_dead(run_id)) take_prepared_lock(name, run_id);
  }

 private:
  bool is_dead(const std::string& run_id) const {
    return !run_id.empty() && run_id != options_.run_id && !run_is_alive(run_id, options_.run_directory);
  }

  void take_partial(const std::string& name, const std::string& run_id) const {
    const int error = remove_aside(vm_, name, run_id);
    if (error == 0) note("removed the partial set of dead run " + run_id);
    report(name, error);
  }

  // A prepared lock is made without holding the lock: one from elsewhere, or one just begun, may be a living contender's.
  void take_prepared_lock(const std::string& name, const std::string& run_id) const {
    if (is_from_here(name, run_id) || is_old(name)) try_remove_flat_tree(vm_, name);
  }

  bool is_from_here(const std::string& name, const std::string& run_id) const {
    const auto directory = vm_.find_child(name);
    const auto file = directory ? read_small_file(*directory, run_id, 4 * kLockRecordSize) : std::nullopt;
    const auto record = file ? read_lock_record(file->content) : std::nullopt;
    return record && record->is_from_the_place_of(here_);
  }

  bool is_old(const std::string& name) const {
    const auto status = vm_.stat(name);
    if (!status) return false;
    const auto made = std::chrono::seconds(status->st_mtim.tv_sec) + std::chrono::nanoseconds(status->st_mtim.tv_nsec);
    return options_.now_on_target - made > options_.stale_after;
  }

  void report(const std::string& name, int error) const {
    if (error != 0) note(name + " cannot be removed yet: " + std::strerror(error));
  }
  void note(const std::string& line) const {
    if (options_.note) options_.note(vm_.path() + ": " + line);
  }

  const Directory& vm_;
  const SweepOptions& options_;
  const LockRecord here_ = own_lock_record(options_.run_id, options_.run_directory);
};

}  // namespace

bool has_leftovers(const Directory& vm, const std::string& own_run_id) {
  for (const auto& name : vm.names()) {
    if (!run_id_behind(name, kDeletingPrefix).empty()) return true;
    const auto run_id = run_id_behind(name, kPartialPrefix);
    if (!run_id.empty() && run_id != own_run_id) return true;
  }
  return false;
}

void sweep(const Directory& vm, const SweepOptions& options) {
  const Sweeper sweeper(vm, options);
  for (const auto& name : vm.names()) {
    try {
      sweeper.look_at(name);
    } catch (const std::exception& error) {
      if (options.note) options.note(error.what());
    }
  }
}

int remove_aside(const Directory& vm, const std::string& name, const std::string& run_id) noexcept {
  try {
    const std::string aside = kDeletingPrefix + run_id;
    const int error = vm.try_rename(name, aside);
    return error != 0 ? error : try_remove_flat_tree(vm, aside);
  } catch (const std::exception&) {
    return ENOMEM;
  }
}

}  // namespace nasbackup::set
