// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The checkpoint that is created together with a backup job, and with it a bitmap in every disk that can hold one
// (https://libvirt.org/formatcheckpoint.html). Functions without state; thread-safety: that of the Domain given.
#pragma once

#include <string>
#include <vector>

#include "engine/vm/domain.h"

namespace nasbackup::vm {

/// Only qcow2 keeps a bitmap: raw files, block devices and network disks are left out. `backed_up`: those of the job; `all`: the
/// domain's.
std::string checkpoint_xml(const std::string& name, const std::vector<DomainDisk>& backed_up, const std::vector<DomainDisk>& all);

bool has_checkpoint(const Domain& domain, const std::string& name);

/// Deletes it, bitmaps and all. True when there is none (any more), also when the domain is gone. Fault(source) when libvirt
/// refuses.
bool delete_checkpoint(Domain& domain, const std::string& name);

}  // namespace nasbackup::vm
