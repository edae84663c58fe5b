// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The domain XML of a backup, rewritten for where its disks are now (https://libvirt.org/formatdomain.html). Pure: text in, text
// out, no libvirt. Functions without state.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace nasbackup::vm {

/// Where a disk was put.
struct RestoredPlace {
  enum class Kind { file, block, nbd, rbd } kind = Kind::file;
  std::string location;  ///< absolute path, NBD URI, or rbd: location
  std::string format;    ///< "qcow2" or "raw"
};

struct RestoredDomain {
  std::map<std::string, RestoredPlace> disks;  ///< by target (vda); a disk that is not here keeps the source that it had
  std::string name;                            ///< empty: as it was
  bool new_uuid = false;                       ///< libvirt draws one
  bool new_macs = false;                       ///< the same
  std::string nvram;                           ///< path of the firmware variables; empty: as it was
};

/// Throws Fault(damaged) for a text that is no domain's, Fault(usage) for a URI that libvirt's XML cannot say.
std::string rewrite_domain(std::string_view xml, const RestoredDomain& changes);

/// Its <name>. Throws Fault(damaged).
std::string name_of_domain(std::string_view xml);

}  // namespace nasbackup::vm
