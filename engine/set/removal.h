// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// CloudStack's way to delete a backup (cloudstack-contract.md, 3.6): one directory, whatever is in it and whoever made it, and
// what dead runs left of it. Chains are CloudStack's own concern. What is not there is gone already. No state; blocking.
#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include "engine/io/lifeline_state.h"
#include "engine/io/run_lock.h"

namespace nasbackup::set {

struct RemovalOptions {
  std::string dir;                               ///< the target
  std::string vm;                                ///< directory in it
  std::string name;                              ///< of the backup's directory in that
  std::string run_id;                            ///< of the Lifeline, whose lock must be held
  std::function<void(const std::string&)> note;  ///< lines for the user that are no warnings; may be empty
  std::stop_token stop;
  std::string run_directory = kRunDirectory;
};

/// Throws Fault: locked while a run works on that VM's backups, failed for what cannot be removed.
void remove_backup(const RemovalOptions& options, LifelineState* state);

}  // namespace nasbackup::set
