// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which checkpoints of a VM the next increment, or a differential backup, can stand on (docs/formats/set.md, "Checkpoints"): all
// others only cost. A function without state.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "engine/set/catalogue.h"
#include "engine/set/checkpoint_ledger.h"

namespace nasbackup::set {

/// The runs whose checkpoints are those of the newest set, and of the newest full one, that have one: a set whose checkpoint is
/// gone (its run failed after it had published, say) makes no other's needless. `sets`: of one VM, oldest first.
std::set<std::string> needed_checkpoints(const std::vector<CatalogueSet>& sets, const CheckpointLedger& ledger);

}  // namespace nasbackup::set
