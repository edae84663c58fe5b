// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where on this host a job's socket and scratch files lie. By default in QEMU's own directory of the domain,
// /var/lib/libvirt/qemu/domain-<id>-<short name>: QEMU binds the socket there itself, nobody else may enter, AppArmor's
// profile of the domain allows it, and libvirt removes it with the domain.
// Thread-safety: values and functions without state.
#pragma once

#include <string>

#include "engine/vm/domain_xml.h"

namespace nasbackup::vm {

/// Longest path of a UNIX socket: sockaddr_un's 108 bytes less the final zero.
inline constexpr std::size_t kLongestSocketPath = 107;

struct JobPlaces {
  std::string socket;
  std::string scratch_dir;
  std::string private_dir;  ///< made by us, to be removed with all in it; empty: none
};

/// The domain's directory below `root`; empty when there is none. libvirt shortens the name, the id is unique.
std::string domain_directory(int id, const std::string& root = "/var/lib/libvirt/qemu");

/// Decides, and makes the private directory (mode 0700, QEMU's owner) when the domain's own cannot be used.
/// `scratch_dir`: the user's choice, or empty. Fault(source) when a directory is missing or a path too long.
JobPlaces choose_job_places(const DomainDescription& domain, const std::string& run_id, const std::string& scratch_dir);

/// Removes the socket, this run's scratch files in `scratch_dir` and the private directory. What is not there is fine.
void remove_job_places(const JobPlaces& places, const std::string& run_id) noexcept;

}  // namespace nasbackup::vm
