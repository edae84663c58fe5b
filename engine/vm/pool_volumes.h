// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Disks that a domain's XML names by a storage pool and a volume of it (<disk type='volume'>): which file or device that is,
// libvirt knows. Thread-safety: libvirt's own, a connection may be used by several threads.
#pragma once

#include <string>

#include <libvirt/libvirt.h>

namespace nasbackup::vm {

/// The XML with each such disk as a disk of type file or block, which libvirt makes of it when the domain starts. A volume that
/// libvirt does not find (its pool is not active), or that has no path on this host, stays what it is.
std::string with_volume_paths(virConnectPtr connection, std::string xml);

}  // namespace nasbackup::vm
