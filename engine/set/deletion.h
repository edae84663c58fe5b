// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Takes sets away, under the same locks as a backup of their VM. Each is renamed to a hidden name and that is made durable, the
// leaves of a chain first, before a file of it goes: a reader sees a set whole or not at all, and what a crash leaves the next
// run sweeps. No passphrase is needed, so the manifests are believed only as far as they keep a set from being deleted. No state;
// blocking.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/io/run_lock.h"
#include "engine/set/catalogue.h"

namespace nasbackup::set {

struct DeletionOptions {
  std::string path;                              ///< of the set's own directory; a link there is not followed
  bool with_children = false;                    ///< the sets that stand on it too
  bool force = false;                            ///< although a manifest, its own or another's, cannot be read
  bool dry_run = false;                          ///< only tell which sets would go
  std::string run_id;                            ///< of the Lifeline, whose lock must be held
  std::function<void(const std::string&)> note;  ///< lines for the user that are no warnings; may be empty
  std::function<void(const std::string&)> warn;  ///< told of what is left; may be empty
  std::stop_token stop;
  std::string run_directory = kRunDirectory;
};

/// The sets that are gone, in the order in which they went. Throws Fault: not_found, usage (a VM's directory), locked, and failed
/// when another set needs it, when it cannot be told whether one does, or when it is none of ours; a chain is whole then, though
/// it may be shorter.
std::vector<CatalogueSet> delete_sets(const DeletionOptions& options, LifelineState* state);

}  // namespace nasbackup::set
