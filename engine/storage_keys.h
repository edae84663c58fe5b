// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Keys of Ceph clients, kept apart from the locations that name them; see StorageKeys in nasbackup.h. Functions without state.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "crypto/secret.h"
#include "engine/io/rbd_storage.h"
#include "engine/nasbackup.h"

namespace nasbackup {

/// As engine/io wants them.
RbdKeys rbd_keys_of(const StorageKeys& keys);

/// A location whose key, if it holds one, has gone to `keys`.
std::string without_key(std::string location, StorageKeys& keys);

/// A network disk as a domain's XML tells of it (https://libvirt.org/formatdomain.html, "network").
struct RbdDisk {
  std::string name;                   ///< POOL/IMAGE or POOL/NAMESPACE/IMAGE
  std::vector<std::string> monitors;  ///< HOST or HOST:PORT, an IPv6 address in brackets
  std::string user;                   ///< of <auth>; empty: there is none
  std::span<const std::byte> key;     ///< what virSecretGetValue gives: not base64
  std::string conf;                   ///< of <config file='…'>; empty: there is none
};

/// Where it is; its key is added to `keys`. Throws Fault(source) for a name that is no image's.
std::string rbd_location_of(const RbdDisk& disk, StorageKeys& keys);

}  // namespace nasbackup
