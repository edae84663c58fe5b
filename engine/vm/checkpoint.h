// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints (https://libvirt.org/formatcheckpoint.html): created together with a backup job, and with each a bitmap of its name
// in every disk that can hold one, which records from then on what the guest writes. libvirt forgets its checkpoints in some ways
// in which the bitmaps stay (the domain was undefined meanwhile, or migrated): then they are told to it again. Functions without
// state; thread-safety: that of the Domain given. All throw Fault(source) with libvirt's words.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/vm/domain.h"

namespace nasbackup::vm {

/// Can the disk keep a bitmap? Only qcow2 does: raw files, block devices and network disks do not.
bool can_hold_bitmap(const DomainDisk& disk) noexcept;

/// `backed_up`: those of the job, `all`: the domain's. Each of the first that can gets a bitmap.
std::string checkpoint_xml(const std::string& name, const std::vector<DomainDisk>& backed_up, const std::vector<DomainDisk>& all);

/// Does libvirt know of it?
bool has_checkpoint(const Domain& domain, const std::string& name) noexcept;

/// Tells libvirt of a checkpoint that it has forgotten; whether its bitmaps are there is not looked at.
void redefine_checkpoint(Domain& domain, const std::string& name, const std::vector<DomainDisk>& with_bitmap,
                         const std::vector<DomainDisk>& all);

/// Of a checkpoint that libvirt knows and a domain that runs: the disks (by target) whose bitmap is there and consistent, with
/// how many bytes it calls changed.
std::map<std::string, std::uint64_t> usable_bitmaps(Domain& domain, const std::string& name);

/// Deletes it, bitmaps and all. True when there is none (any more), also when the domain is gone.
bool delete_checkpoint(Domain& domain, const std::string& name);

/// libvirt forgets it; its bitmaps stay. True when it knows none (any more).
bool forget_checkpoint(Domain& domain, const std::string& name);

/// Deletes it whatever libvirt still knows of it, and whatever is left of its bitmaps on `all`, on all of which they may be.
/// False when the domain does not run, and so its bitmaps stay; libvirt has forgotten it then.
bool uproot_checkpoint(Domain& domain, const std::string& name, const std::vector<DomainDisk>& all);

}  // namespace nasbackup::vm
