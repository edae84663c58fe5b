// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A VM, or images, into a new set.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

/// Whether later backups of a running VM may hold only what changed since this one, and whether this one does.
enum class ChainPart {
  none,       ///< no checkpoint is made: nothing is left in the VM's disks
  full,       ///< with a checkpoint, on which increments can stand
  increment,  ///< what changed since an earlier one; each disk of which that cannot be known is in it as a whole
};

/// On what an increment shall stand, by somebody who keeps account of checkpoints and files himself.
struct NamedParent {
  std::string checkpoint;          ///< with a bitmap of its name on every disk, or the backup becomes a full one
  std::vector<std::string> files;  ///< below the target, one for each disk in the domain's order
};

/// A backup of a libvirt domain (`vm`), or of `sources` under the name `vm` when there are any.
struct BackupOptions : TransferOptions {
  std::string vm;                    ///< the domain's name; with `sources` the set's name
  std::vector<std::string> sources;  ///< --disk SRC without libvirt: path, nbd URI or rbd: location
  std::string source_format;         ///< of `sources`: "raw", "qcow2", "luks" (a raw disk in a LUKS container), or empty to probe
  std::string to;                    ///< the target directory; "null:" reads everything and keeps nothing
  std::string set;                   ///< "VM/NAME", the set's directory below `to`; empty: the VM's name, and the time
  std::optional<std::vector<std::string>> stopped_disks;  ///< of `vm` when it does not run here: CloudStack's paths and rbd:
                                                          ///< strings, in order; nothing: those of the domain's XML
  ChainPart chain = ChainPart::none;
  std::string parent;                       ///< of an increment: the set on which it shall stand; empty: the newest that can be
  std::optional<NamedParent> named_parent;  ///< of an increment by CloudStack's contract, `checkpoint` being its own
  std::string checkpoint;  ///< without `chain`: created with the job, and a bitmap on every disk that can hold one; empty: none
  std::vector<std::string> source_secrets;  ///< UUIDs of libvirt secrets that open `stopped_disks`, beside source_keys
  std::string stopped_bitmap;        ///< added, empty, to the qcow2 files of `stopped_disks` when they are read; empty: none
  bool open_to_all = false;          ///< files of mode 0644 and directories of mode 0755; else 0600 and 0700
  std::vector<std::string> disks;    ///< only these (target name, e.g. vda)
  std::vector<std::string> exclude;  ///< not these
  bool quiesce = false;              ///< freeze the guest's file systems while the job begins
  std::chrono::seconds quiesce_timeout{10};  ///< for the agent's answer
  std::string scratch;                       ///< directory of the job's scratch files; empty: the domain's own
  bool allow_plaintext = false;              ///< an encrypted source may be written unencrypted
  std::string exec_in_job;                   ///< shell command run once the job has begun; the job ends after it
  std::string connect = "qemu:///system";    ///< libvirt URI
  std::uint64_t min_free = 1ull << 30;       ///< room that must be left on the target
};

/// Throws Error(usage) for what backup() would refuse before it touches anything.
void check_options(const BackupOptions& options);

/// As libvirt counts: major × 1,000,000 + minor × 1,000 + release.
struct HypervisorVersions {
  unsigned long libvirt = 0;
  unsigned long hypervisor = 0;  ///< QEMU
};
/// Throws Error(source_problem) when libvirt cannot be reached.
HypervisorVersions hypervisor_versions(const std::string& connect);

/// Backs up a VM (or images) into a new set. Throws Error; nothing is published then.
JobReport backup(const BackupOptions& options, const JobControl& control);

}  // namespace nasbackup
