// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// File names of a set's images: `root.<id>.qcow2` for the first disk, `datadisk.<id>.qcow2` for the others, where <id> is
// the base name of the volume's path (cloudstack-contract.md, section 5). Used by one thread at a time.
#pragma once

#include <set>
#include <string>

namespace nasbackup::set {

/// The id of a disk from its source: the base name of a path; the part between the last '/' and ':' of an `rbd:` string; the UUID
/// of /dev/drbd/by-res/cs-<uuid>/0; the export name of an NBD URI. Empty when there is none.
std::string disk_id(const std::string& source);

/// Hands out the names of one set.
class ImageNames {
 public:
  /// The name of the next disk; `root`: it is the VM's first. Characters of the id that a file name cannot have, or that make
  /// qemu take the name for a protocol, become '_'; an empty id becomes "disk"; an equal name gets "-2", "-3" behind the id.
  /// Names that differ in case only are equal: the target may be a Windows share.
  /// `suffix`: ".qcow2", or ".qcow2.luks" for one in a LUKS container.
  std::string next(const std::string& id, bool root, const std::string& suffix = ".qcow2");

 private:
  std::set<std::string> taken_;
};

}  // namespace nasbackup::set
