// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the configuration file says for CloudStack's backups (cloudstack-contract.md, 10): in the table [cloudstack] for all
// zones, in [cloudstack.zones.NAME] for one, which wins. CloudStack's five keys by their own names, options of `backup` by
// theirs, and a few of our own. Docs: docs/cloudstack.md. A function without state; it reads the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/configuration.h"

namespace nasbackup::tools::cloudstack {

struct Zone {
  std::string name;                      ///< empty: none is named
  std::string file;                      ///< the configuration file; empty: there is none
  bool compression = false;              ///< nas.backup.compression.enabled
  bool encryption = false;               ///< nas.backup.encryption.enabled
  std::string passphrase;                ///< nas.backup.encryption.passphrase; empty: none
  std::uint64_t bandwidth = 0;           ///< nas.backup.bandwidth.limit.mbps: MiB/s, 0: no limit
  bool integrity_check = false;          ///< nas.backup.integrity.check
  bool restore_opens_encrypted = false;  ///< CloudStack has PR #12898's Java, so encryption may be switched on by the file alone
  bool layered = false;                  ///< -c and -e together are allowed: a form that CloudStack's own restore cannot open
  bool size_marker = false;              ///< PR #14203: BACKUP_SIZE_TOTAL=
  std::uint64_t max_per_host = 0;        ///< so many backups run at once on this host, others wait; 0: no cap
  std::uint64_t queue_timeout = 7200;    ///< seconds that one waits at most
  ConfiguredOptions options;  ///< of `backup`: a codec (compress) and a passphrase file (encrypt) count when they are switched on
};

/// `zone`: empty: the one that the file names at its top (zone = "…"), if any. Throws UsageError: a key or a value that means
/// nothing, a zone that is asked for and not there.
Zone read_zone(const std::string& path, bool must_exist, const std::string& zone);

}  // namespace nasbackup::tools::cloudstack
