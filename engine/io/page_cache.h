// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What of a file the page cache holds: a measurement that reads the same twice would else measure memory. Blocking; no state.
#pragma once

#include <string>
#include <vector>

#include "formats/units.h"

namespace nasbackup {

struct LifelineState;

/// The share of `ranges` that is in memory, 0 to 1; nothing is read for it. Less than zero when that cannot be found out.
double cached_share(const std::string& path, const std::vector<GuestRange>& ranges, LifelineState* lifeline) noexcept;

/// Lets the pages of `ranges` go, as far as nobody else uses them; what is dirty is written first.
void drop_cached(const std::string& path, const std::vector<GuestRange>& ranges, LifelineState* lifeline) noexcept;

/// Lets a whole file go. True: no page of it was left, so that whoever reads it next is given what its storage holds. False: some
/// are in use or cannot go (a file system in memory), or nobody may know.
bool let_file_go(const std::string& path, LifelineState* lifeline) noexcept;

}  // namespace nasbackup
