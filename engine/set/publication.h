// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How a partial set becomes a set: the choice of its name and the rename. Plain rename, because NFS and CIFS have no
// RENAME_NOREPLACE: what keeps a set from being replaced is the VM's target lock, a look before, and that rename refuses a
// directory that has something in it. No state; used under the target lock.
#pragma once

#include <chrono>
#include <stop_token>
#include <string>

#include "engine/set/directory.h"
#include "engine/set/set_name.h"

namespace nasbackup::set {

/// This second, or when a set has its name already the first that comes and is free. Throws Fault(interrupted), and
/// Fault(failed) when that takes longer than a minute.
SetName wait_for_free_name(const Directory& vm, const std::stop_token& stop);

/// `name`, or the first second after it that no set has.
SetName first_free_name(const Directory& vm, SetName name);

/// True when the set of that name is the one with this manifest.
bool is_published(const Directory& vm, const std::string& set_name, const std::string& manifest_text) noexcept;

enum class Moved { done, name_taken };

/// Renames. A rename that fails is looked at (the answer of one that happened can get lost) and tried again for `patience`
/// (another client may have the directory open) before Fault(failed).
Moved move_into_place(const Directory& vm, const std::string& partial_name, const std::string& set_name,
                      const std::string& manifest_text, std::chrono::milliseconds patience);

}  // namespace nasbackup::set
