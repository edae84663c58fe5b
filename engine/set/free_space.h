// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Room on the target. No state; safe from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/set/directory.h"

namespace nasbackup::set {

/// Bytes that this user may still write; nothing when the file system does not say (it reports a size of zero).
std::optional<std::uint64_t> free_space(const Directory& directory);

/// Throws Fault(target_full) with both numbers when less than `needed` is left. `where`: what the directory is to the user.
void check_free_space(const Directory& directory, std::uint64_t needed, const std::string& where);

}  // namespace nasbackup::set
