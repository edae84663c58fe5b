// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Ending our own backup job, and nobody else's. Shared by the job itself, its scratch watch, the guard and the sweep.
// Thread-safety: that of the Domain given.
#pragma once

#include <chrono>
#include <string>

#include "engine/io/lifeline_state.h"
#include "engine/vm/domain.h"

namespace nasbackup::vm {

/// Whether the job may be ended now, which is to be asked before abort_own_job() until it is true (twelve seconds at the most):
/// no handshake of this run waits for its client (class Handshake), and from now on none is begun.
bool can_end_job(LifelineState& state) noexcept;

/// Aborts the backup job whose NBD server listens on `socket` and waits until libvirt has forgotten it, at most
/// `patience`. True when there is no such job (any more), also when the domain is gone; a job with another socket is
/// not touched, and one that is just beginning is waited for until it shows whose it is. Scratch files that libvirt left
/// are removed. Fault(source) when libvirt cannot be asked.
///
/// Should the guest have been paused in between because a full scratch directory failed its write, it is resumed: QEMU
/// repeats the write, which no longer needs the scratch file.
bool abort_own_job(Domain& domain, const std::string& socket, std::chrono::milliseconds patience);

/// Waits while libvirt is just beginning a backup job, whosever it is, at most `patience`; true when it is not. Its caller may
/// have died inside the call.
bool wait_while_job_begins(const Domain& domain, std::chrono::milliseconds patience);

}  // namespace nasbackup::vm
