// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a passphrase must be before anything is encrypted with it; the class itself is in nasbackup.h. Pure; safe everywhere.
#pragma once

#include "engine/nasbackup.h"

namespace nasbackup {

/// Throws Fault(usage) when qemu could not open an image with it: it takes UTF-8 without NUL only. For opening any bytes will do.
void require_openable_by_qemu(const Passphrase& passphrase);

/// Throws Fault(usage) for a count of PBKDF2 iterations that is too weak (below a million unless `allow_weak`) or meaningless.
void require_strong(unsigned iterations, bool allow_weak);

/// Both, for a job that encrypts what it writes. To be called before anything starts.
void check_encryption(const TransferOptions& options);

}  // namespace nasbackup
