// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Giving a guest back that a job held when its process died or was given up. Used by the supervisor and by the small guard
// process; needs nothing but the LifelineState.
// Thread-safety: starts one thread of its own; call it once at a time.
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
