// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Takes sets away.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

struct DeleteOptions {
  std::string path;            ///< of the set's own directory: DIR/VM/TIME
  bool with_children = false;  ///< the sets that stand on it go too
  bool force = false;          ///< although a manifest, its own or another's, cannot be read
  bool dry_run = false;        ///< only tell what would go
  /// The libvirt that deletes the checkpoints which no set of the VM needs any more, if it has the VM; else the next backup does.
  std::string connect = "qemu:///system";
};

struct DeletedSet {
  std::string path;
  std::string time;  ///< RFC 3339, UTC
  std::string kind;
  std::uint64_t stored_bytes = 0;
};

struct DeleteReport {
  std::vector<DeletedSet> sets;       ///< in the order in which they went: what stands on another goes before it
  std::vector<std::string> warnings;  ///< what could not be removed yet
};

/// Takes a set away, under the locks of its VM. Needs no passphrase. Throws Error: failed when another set needs it, or may need
/// it; usage for the directory of a VM.
DeleteReport delete_sets(const DeleteOptions& options, const JobControl& control);

/// CloudStack's way: the directory `set` ("VM/NAME") below `dir`, whatever is in it and whoever made it, and what dead runs left
/// of it; no chain is looked at. What is not there is gone already. Throws Error: locked, failed.
void remove_backup(const std::string& dir, const std::string& set, const JobControl& control);

}  // namespace nasbackup
