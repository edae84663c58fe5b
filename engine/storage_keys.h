// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Keys of Ceph clients, kept apart from the locations that name them; see StorageKeys in nasbackup.h. Functions without state.
#pragma once

#include <span>
#include <string>

#include "crypto/secret.h"
#include "engine/io/rbd_storage.h"
#include "engine/nasbackup.h"
#include "engine/vm/disk_at_rest.h"

namespace nasbackup {

/// As engine/io wants them.
RbdKeys rbd_keys_of(const StorageKeys& keys);

/// A location whose key, if it holds one, has gone to `keys`.
std::string without_key(std::string location, StorageKeys& keys);

/// Where a domain's disk is. Its key, as libvirt has it (not in base64), is added to `keys`; empty: Ceph looks for it in its own
/// places, as it does for QEMU. Throws Fault(source) for a name that is no image's.
std::string rbd_location_of(const vm::RbdDisk& disk, std::span<const std::byte> key, StorageKeys& keys);

}  // namespace nasbackup
