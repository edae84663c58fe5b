// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a backup needs to know of a domain, read from its XML (https://libvirt.org/formatdomain.html). Pure: text in,
// values out, no libvirt. Thread-safety: plain values and functions without state.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "engine/vm/disk_at_rest.h"

namespace nasbackup::vm {

/// One disk of the domain. CD-ROM and floppy drives are never among them.
struct DomainDisk {
  std::string target;      ///< <target dev>, e.g. vda: the disk's name everywhere in this program
  std::string bus;         ///< virtio, scsi, sata, …
  std::string type;        ///< file, block, network, volume, nvme, …
  std::string source;      ///< path; for a network disk the image's name there, e.g. pool/image; empty: no medium
  std::string protocol;    ///< of a network disk: rbd, nbd, …
  std::string id;          ///< CloudStack's name of the volume: the base name of the source path
  std::string format;      ///< of the active layer: qcow2, raw, …
  std::string serial;      ///< empty: none
  bool encrypted = false;  ///< some layer has <encryption>: a live job would hand out the decrypted data
  bool read_only = false;
  bool transient = false;
  unsigned position = 0;  ///< among the disks listed here, in domblklist's order; 0 is the root disk
  std::string obstacle;   ///< why a pull job cannot back it up; empty: it can
  DiskAtRest at_rest;     ///< how it is read while the domain is shut off
};

enum class AgentChannel { absent, disconnected, connected };

struct DomainDescription {
  std::string name;
  std::string uuid;
  int id = -1;  ///< -1: not running
  std::vector<DomainDisk> disks;
  std::string nvram;      ///< path of the UEFI variables file; empty: none
  std::string tpm_state;  ///< directory of the emulated TPM's state; empty: none
  uid_t uid = 0;          ///< QEMU's, from the DAC label
  gid_t gid = 0;
  AgentChannel agent = AgentChannel::absent;
};

/// A file or device that a domain uses.
struct UsedFile {
  std::string path;
  bool writes = false;  ///< else it only reads it
};

/// All of a domain: disks of every kind with what they stand on, firmware variables.
std::vector<UsedFile> parse_used_files(std::string_view xml);

/// Reads the XML of virDomainGetXMLDesc. Fault(source) when it is not a domain.
DomainDescription parse_domain(std::string_view xml);

/// CloudStack's <id> of a volume: "pool/image" gives image, /dev/drbd/by-res/cs-U/0 gives U, any other path its base name.
std::string volume_id(std::string_view type, std::string_view source);

/// The disks of a backup: all, or those of `only`, without those of `except`; in the domain's order. A name that no disk
/// has is Fault(usage) and names the ones there are; a disk that cannot be backed up, or no disk at all, is Fault(source).
/// A disk without a medium is passed over unless `only` names it. `at_rest`: the domain is shut off, and what counts is whether
/// a disk can be read without it.
std::vector<DomainDisk> select_disks(const DomainDescription& domain, const std::vector<std::string>& only,
                                     const std::vector<std::string>& except, bool at_rest = false);

}  // namespace nasbackup::vm
