// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See settle_checkpoints.h.
#include "engine/settle_checkpoints.h"

#include <optional>
#include <set>

#include "engine/io/fault.h"
#include "engine/io/run_lock.h"
#include "engine/set/needed_checkpoints.h"
#include "engine/vm/checkpoint.h"

namespace nasbackup {

namespace {

std::vector<std::string> ended_runs(const VmOnTarget& vm, const set::CheckpointLedger& ledger) {
  std::vector<std::string> runs = ledger.runs();
  std::erase_if(runs, [&](const std::string& run) { return run == vm.own_run || run_is_alive(run); });
  return runs;
}

std::optional<vm::Domain> find_domain(const std::string& connect, const std::string& name) {
  try {
    return vm::Domain::by_name(connect, name);
  } catch (const Fault&) {
    return std::nullopt;
  }
}

}  // namespace

// A run that has ended published before it did, so its set is seen when the sets are looked at afterwards.
void settle_checkpoints(const VmOnTarget& vm, vm::Domain& domain, const std::vector<vm::DomainDisk>& all,
                        const set::CheckpointLedger& ledger) {
  const std::vector<std::string> runs = ended_runs(vm, ledger);
  const std::set<std::string> keep = set::needed_checkpoints(set::list_vm(vm.directory, vm.name), ledger);
  for (const std::string& run : runs) {
    if (keep.contains(run)) continue;
    try {
      if (vm::uproot_checkpoint(domain, ledger.checkpoint_of(run), all)) ledger.remove(run);
    } catch (const Fault& fault) {
      if (vm.note) vm.note(std::string(fault.what()) + " (the next run tries again)");
    }
  }
}

void settle_checkpoints_if_there(const std::string& vm_path, const std::string& connect,
                                 const std::function<void(const std::string&)>& note, LifelineState* state) {
  const std::size_t slash = vm_path.rfind('/');
  const auto root = set::Directory::open(vm_path.substr(0, slash), state);
  const std::string name = vm_path.substr(slash + 1);
  const auto directory = root.find_child(name);
  if (!directory || !set::CheckpointLedger::exists(root)) return;
  const set::CheckpointLedger ledger(root, *directory);
  if (ledger.runs().empty()) return;
  std::optional<vm::Domain> domain = find_domain(connect, name);
  if (!domain) return;
  settle_checkpoints({*directory, name, "", note}, *domain, domain->describe().disks, ledger);
}

}  // namespace nasbackup
