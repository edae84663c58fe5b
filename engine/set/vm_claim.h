// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One run at a time for one VM on this host: RUN_DIRECTORY/vm-<name>.claim holds the run's id. The claim is good for as
// long as that run is alive (run_lock.h) and not longer, so a killed run leaves nothing to clean up. The file is read and
// written under a short flock of its own. Used by one thread at a time.
#pragma once

#include <string>

namespace nasbackup::set {

class VmClaim {
 public:
  /// Throws Fault(locked) naming the other run when it is alive, Fault(usage) for a name that check_vm_name() refuses.
  VmClaim(const std::string& vm, const std::string& run_id, const std::string& run_directory);
  ~VmClaim();
  VmClaim(const VmClaim&) = delete;
  VmClaim& operator=(const VmClaim&) = delete;

 private:
  std::string path_;
  std::string run_id_;
};

}  // namespace nasbackup::set
