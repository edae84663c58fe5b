// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The program under the name nasbackup.sh: CloudStack's script, replaced. stdout carries what its Java reads
// (cloudstack-contract.md, 4): of a backup one number, of a failure one line; stderr next to nothing; all else goes to the
// agent's log. Docs: docs/cloudstack.md.
#pragma once

#include <string>
#include <vector>

#include "tools/passphrase_places.h"

namespace nasbackup::tools::cloudstack {

/// Whether the program was started by the script's name.
bool is_front_end(const char* program) noexcept;

/// `words` without the program's name; keys of Ceph clients have been taken out of them. Returns the exit status: 0, 1, or 20
/// when something of a failed backup had to stay.
int run_call(const std::vector<std::string>& words, PassphrasePlaces storage_keys);

}  // namespace nasbackup::tools::cloudstack
