// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A VM's name as a directory name on the target. It is used as it is, so that people and CloudStack find the directory,
// or refused; it is never rewritten, because two VMs must not end up in one directory. Pure; safe from any thread.
#pragma once

#include <cstddef>
#include <string>

namespace nasbackup::set {

/// NAME_MAX less what the claim under /run/nasbackup puts around the name.
constexpr std::size_t kMaxVmName = 240;

/// Throws Fault(usage) for what cannot be a visible directory on every file system: empty, a '/', a leading '.', control
/// characters, bytes that are not UTF-8, longer than kMaxVmName. Spaces, commas and quotes are fine.
void check_vm_name(const std::string& vm);

}  // namespace nasbackup::set
