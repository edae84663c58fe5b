// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The <domainbackup> text that starts a pull job, and what a running job's text says
// (https://libvirt.org/formatbackup.html). Pure; thread-safety: functions without state.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nasbackup::vm {

/// One disk of a job that is asked for, or that runs.
struct BackupDisk {
  std::string target;
  std::string scratch;      ///< path of the scratch file
  std::string export_name;  ///< of a running job; empty in a request: libvirt takes the target
  std::string since;        ///< the checkpoint whose bitmap is exported with it; empty: none
  std::string bitmap;       ///< the name under which it is; of a running job
};

struct BackupDescription {
  bool pull = false;
  std::string socket;  ///< of the NBD server; empty: TCP, or a push job
  std::vector<BackupDisk> disks;
};

/// Any character is allowed in the paths.
std::string pull_job_xml(const std::string& socket, const std::vector<BackupDisk>& disks);
/// The description of the job; an empty one when the text cannot be read (then it is nobody's we know).
BackupDescription parse_backup(std::string_view xml);
/// nbd+unix:///EXPORT?socket=PATH, with everything escaped that a URI does not allow.
std::string nbd_uri(std::string_view socket, std::string_view export_name);
/// nbd://HOST:PORT/EXPORT, the same.
std::string nbd_tcp_uri(std::string_view host, std::string_view port, std::string_view export_name);

}  // namespace nasbackup::vm
