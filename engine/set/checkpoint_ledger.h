// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which checkpoints, and with them bitmaps, a VM may have because of this target (docs/formats/set.md, "Checkpoints"): a hidden
// file for each, written before libvirt is asked for the checkpoint and removed when it is gone for certain. So a dead run's
// bitmap is found even when libvirt has forgotten its checkpoint. Under the VM's lock; used by one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/set/directory.h"

namespace nasbackup::set {

class CheckpointLedger {
 public:
  /// Gives the target its id when it has none: 16 hexadecimal digits, drawn once. Throws Fault. `vm` outlives the ledger.
  CheckpointLedger(const Directory& root, const Directory& vm);

  static bool exists(const Directory& root);

  /// The checkpoint of that run's backup: of this target and no other, so that one VM can have several.
  std::string checkpoint_of(const std::string& run) const { return prefix_ + run; }
  bool is_ours(const std::string& checkpoint) const { return run_of(checkpoint).has_value(); }
  /// The run with whose backup it was created; nothing when it is no checkpoint of this target. The set that has it now may be
  /// another run's, which merged that backup with others.
  std::optional<std::string> run_of(const std::string& checkpoint) const;

  /// It is on the disk when this returns. Throws Fault.
  void add(const std::string& run) const;
  /// What cannot be removed now is found again by the next run.
  void remove(const std::string& run) const noexcept;
  /// Whether the checkpoint may be there.
  bool has(const std::string& checkpoint) const;
  /// The runs that are in it.
  std::vector<std::string> runs() const;

 private:
  const Directory& vm_;
  std::string prefix_;
};

}  // namespace nasbackup::set
