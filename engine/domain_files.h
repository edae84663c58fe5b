// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a set says of a domain besides the content of its disks, be it running or shut off: texts, firmware variables, TPM state,
// and each disk's entry in the manifest. Functions without state, called by the run's thread.
#pragma once

#include "engine/backup_run.h"
#include "engine/vm/domain.h"

namespace nasbackup {

/// What cannot be read is a warning of the run.
void keep_texts_and_firmware(BackupRun& run, const vm::Domain& domain, const vm::DomainDescription& description);

/// Throws Fault(source) when a disk is encrypted, the set is not, and that is not allowed.
void refuse_plaintext_of_encrypted(const std::vector<vm::DomainDisk>& disks, const BackupOptions& options);

set::ManifestDisk manifest_entry(const vm::DomainDisk& disk);

}  // namespace nasbackup
