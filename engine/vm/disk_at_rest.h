// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A disk of a domain that is shut off: where its bytes lie and in which format, from its <disk> element
// (https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms). The format is the XML's word and never probed: a guest
// may have written anything onto a raw disk. Pure; a plain value and a function without state.
#pragma once

#include <string>

#include "engine/io/image_chain.h"

namespace pugi {
class xml_node;
}

namespace nasbackup::vm {

struct DiskAtRest {
  std::string location;  ///< path, or NBD URI
  std::string format;    ///< "raw", "qcow2" or "luks" (a raw disk in a LUKS container)
  KnownBacking backing;  ///< as its <backingStore> says, if it has one
  std::string obstacle;  ///< why it cannot be read without the domain running; empty: it can
};

DiskAtRest parse_disk_at_rest(const pugi::xml_node& disk);

}  // namespace nasbackup::vm
