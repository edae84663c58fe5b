// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What dead runs left of a domain on this host, found and removed at the start of the next run.
// Thread-safety: that of the Domain given.
#pragma once

#include <string>
#include <vector>

#include "engine/vm/domain.h"

namespace nasbackup::vm {

/// Ends the domain's backup job when its socket names a run of ours whose lock is free, then removes sockets, scratch
/// files (in QEMU's directory of the domain and in `scratch_dir`, if given) and private directories of dead runs.
/// Whatever names no run of ours, or a run that lives, is left alone. Returns a line for each thing that was swept.
/// Fault(source) when libvirt cannot be asked, or when a dead run's job does not end.
std::vector<std::string> sweep_leftovers(Domain& domain, const std::string& scratch_dir);

}  // namespace nasbackup::vm
