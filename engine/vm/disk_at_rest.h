// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A disk of a domain that is shut off: where its bytes lie and in which format, from its <disk> element
// (https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms). The format is the XML's word and never probed: a guest
// may have written anything onto a raw disk. Pure; a plain value and a function without state.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/io/image_chain.h"
#include "engine/vm/stored_secret.h"

namespace pugi {
class xml_node;
}

namespace nasbackup::vm {

/// A disk in a Ceph cluster (https://libvirt.org/formatdomain.html, "network").
struct RbdDisk {
  std::string name;                   ///< POOL/IMAGE or POOL/NAMESPACE/IMAGE
  std::string snapshot;               ///< empty: the image as it is now
  std::vector<std::string> monitors;  ///< HOST or HOST:PORT, an IPv6 address in brackets
  std::string user;                   ///< of <auth>; empty: there is none
  SecretName key;                     ///< of the secret in which libvirt keeps the user's key
  std::string conf;                   ///< of <config file='…'>; empty: there is none
};

struct DiskAtRest {
  std::string location;        ///< path, or NBD URI; empty: see rbd
  std::optional<RbdDisk> rbd;  ///< an image of a Ceph cluster
  std::string format;          ///< "raw", "qcow2" or "luks" (a raw disk in a LUKS container)
  KnownBacking backing;        ///< as its <backingStore> says, if it has one
  std::string obstacle;        ///< why it cannot be read without the domain running; empty: it can
};

DiskAtRest parse_disk_at_rest(const pugi::xml_node& disk);

}  // namespace nasbackup::vm
