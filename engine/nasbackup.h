// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The library's front door: everything that other programs (and our own command) may use.
//
// Thread-safety: the functions may be called from any thread, several jobs at once; one object is used by one thread
// at a time unless its comment says more. Errors: every function that can fail throws nasbackup::Error. Sizes are in
// bytes, times in seconds, paths in the host's encoding. The jobs run inside the calling process: a target that hangs
// in the kernel hangs the caller. A program that must not hang does what the command does: it runs the job in a child
// process and watches it through a Lifeline.
#pragma once

#include "api/backup.h"
#include "api/check.h"
#include "api/convert.h"
#include "api/delete.h"
#include "api/host_queue.h"
#include "api/info.h"
#include "api/job.h"
#include "api/keys.h"
#include "api/lifeline.h"
#include "api/merge.h"
#include "api/outcome.h"
#include "api/passphrase.h"
#include "api/rate.h"
#include "api/restore.h"
#include "api/serve.h"
#include "api/storage.h"
#include "api/text.h"
#include "api/tune.h"
#include "api/verify.h"

namespace nasbackup {

/// The library's version, "0.1.0".
const char* version() noexcept;

}  // namespace nasbackup
