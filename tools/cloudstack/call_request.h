// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A call of nasbackup.sh and the zone it is for, turned into a request: by way of the command line of `nasbackup backup`, so that
// each option is judged in one place. Flags of the call win over the environment, and both over the file. Pure, but for the
// environment.
#pragma once

#include "tools/cloudstack/call.h"
#include "tools/cloudstack/zone.h"
#include "tools/request.h"

namespace nasbackup::tools::cloudstack {

/// Throws CallError for what the contract refuses, before anything is touched.
Request make_call_request(const Call& call, const Zone& zone);

/// Whether the call asks for an increment; a full backup may be made instead.
bool asks_for_increment(const Call& call);

}  // namespace nasbackup::tools::cloudstack
