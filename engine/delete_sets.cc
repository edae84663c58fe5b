// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::delete_sets: takes a set, and what stands on it, from a target.
#include "engine/io/lifeline_state.h"
#include "engine/nasbackup.h"
#include "engine/set/deletion.h"
#include "engine/set/removal.h"
#include "engine/settle_checkpoints.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

DeleteReport delete_now(const DeleteOptions& options, const JobControl& control) {
  const auto lifeline = control.lifeline ? control.lifeline : std::make_shared<Lifeline>();
  if (lifeline->state().lock_fd < 0)
    throw Fault(FaultKind::failed, "delete: run it as root: it locks its run under /run/nasbackup");
  DeleteReport report;
  set::DeletionOptions deletion;
  deletion.path = options.path;
  deletion.with_children = options.with_children;
  deletion.force = options.force;
  deletion.dry_run = options.dry_run;
  deletion.run_id = lifeline->run_id();
  deletion.note = control.on_message;
  deletion.warn = [&](const std::string& line) { report.warnings.push_back(line); };
  deletion.stop = control.stop;
  for (const set::CatalogueSet& set : set::delete_sets(deletion, &lifeline->state()))
    report.sets.push_back({set.path, set.time, set.manifest ? set.manifest->kind : "", set.stored_bytes()});
  if (!options.dry_run && !report.sets.empty()) {
    const std::string path = report.sets.front().path;
    settle_checkpoints_if_there(path.substr(0, path.rfind('/')), options.connect, deletion.note, &lifeline->state());
  }
  return report;
}

}  // namespace

void remove_backup(const std::string& dir, const std::string& set, const JobControl& control) {
  translate_faults([&] {
    const auto lifeline = control.lifeline ? control.lifeline : std::make_shared<Lifeline>();
    const std::size_t slash = set.find('/');
    if (slash == std::string::npos) throw Fault(FaultKind::usage, set + ": write VM/NAME");
    set::remove_backup({dir, set.substr(0, slash), set.substr(slash + 1), lifeline->run_id(), control.on_message, control.stop},
                       &lifeline->state());
  });
}

DeleteReport delete_sets(const DeleteOptions& options, const JobControl& control) {
  return translate_faults([&] { return delete_now(options, control); });
}

}  // namespace nasbackup
