// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Giving a guest back that a job held when its process died or was given up. Used by the supervisor and by the small guard
// process; needs nothing but the LifelineState.
// Thread-safety: may be called by several processes for the same guest; in one process once at a time. It works in a thread
// of its own, so that a libvirtd that hangs does not hold the caller.
#pragma once

#include <chrono>
#include <string>

#include "engine/io/lifeline_state.h"

namespace nasbackup::vm {

/// Thaws the guest and ends our backup job, as far as the flags say that they are held, trying again until `deadline`
/// from now; removes what the job left. Returns what is still held ("guest frozen", "backup job", or both with the
/// reason), or an empty string. Returns in time even when libvirtd hangs.
std::string release(LifelineState& state, std::chrono::seconds deadline) noexcept;

}  // namespace nasbackup::vm
