// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See needed_checkpoints.h.
#include "engine/set/needed_checkpoints.h"

namespace nasbackup::set {

std::set<std::string> needed_checkpoints(const std::vector<CatalogueSet>& sets, const CheckpointLedger& ledger) {
  std::set<std::string> runs;
  bool newest = false, full = false;
  for (auto set = sets.rbegin(); set != sets.rend(); ++set) {
    const auto run = set->manifest ? ledger.run_of(set->manifest->checkpoint) : std::nullopt;
    if (!run || !ledger.has(set->manifest->checkpoint)) continue;
    const bool is_full = set->manifest->kind == kFull;
    if (!newest || (is_full && !full)) runs.insert(*run);
    newest = true;
    full = full || is_full;
  }
  return runs;
}

}  // namespace nasbackup::set
