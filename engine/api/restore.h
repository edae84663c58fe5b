// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Puts disks back.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

/// Puts disks back. Its `source_keys` open what is read; `encrypt` is not looked at: what is written is plain.
struct RestoreOptions : TransferOptions {
  std::string path;           ///< a set, DIR/VM for its newest, or an image
  std::string source_format;  ///< of an image: "raw", "qcow2", "luks", or empty to probe
  std::string to;             ///< directory for the disks that have no target of their own; empty: only those with one
  std::map<std::string, std::string>
      targets;                ///< by the disk's name, id or file: a path, a block device, an NBD URI, an rbd: location
  std::string target_format;  ///< of files: "qcow2" or "raw"; empty: qcow2. Everything else gets raw disks
  bool force = false;         ///< replace files that exist, and write over devices and Ceph images; never what is in use
  bool dry_run = false;       ///< only say what would be done
  std::string new_name;       ///< of the domain; empty: as it was
  bool new_uuid = false;      ///< libvirt draws one
  bool new_macs = false;      ///< the same
  bool define = false;        ///< make the domain known to libvirt when all is written; needs `to`
  std::string connect = "qemu:///system";  ///< libvirt URI: who is asked what is in use, and defines the domain
};

struct RestoreReport : JobReport {
  bool proved = false;             ///< the content was compared with digests while it was written
  std::vector<std::string> files;  ///< written beside the disks: domain XML, firmware variables, TPM state
  std::string domain_xml;          ///< path; empty: there is none
  std::string domain;              ///< name in that XML
  bool defined = false;            ///< libvirt knows it now
};

/// Throws Error: damaged when what is read is not what was backed up, locked when a target is in use; no target file is left then
/// that was not there before. That libvirt does not define the domain is a warning: the disks are there.
RestoreReport restore(const RestoreOptions& options, const JobControl& control);

}  // namespace nasbackup
