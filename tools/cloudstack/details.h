// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The details map that travels with CloudStack's backup command (cloudstack-contract.md, 10.3): text to text. Made from a zone's
// configuration for its Java, and read as options of a backup. Functions without state; read_details() reads a file.
#pragma once

#include <memory>
#include <string>

#include "engine/nasbackup.h"
#include "tools/cloudstack/zone.h"
#include "tools/command_line.h"
#include "tools/result.h"

namespace nasbackup::tools::cloudstack {

struct Details {
  bool compression = false;
  bool encryption = false;
  bool integrity_check = false;
  std::string bandwidth_limit;                   ///< MiB/s; empty or "0": none
  std::shared_ptr<const Passphrase> passphrase;  ///< null: none
};

/// Upstream's words [3.1].
inline constexpr char kBothRefused[] = "Compression and encryption cannot be combined: qcow2 does not support both on one image";

/// A JSON object; the file may be a pipe and is read once. Throws UsageError.
Details read_details(const std::string& path);

/// Null for an empty text.
std::shared_ptr<const Passphrase> as_passphrase(const std::string& text);

Details details_of(const Zone& zone);
/// The map itself. The passphrase is null unless `with_secrets`; it is read from its file then, when the zone names one.
Json json_of(const Zone& zone, bool with_secrets);

/// MiB/s as CloudStack writes them, to what --rate takes; empty: no limit. Throws UsageError naming `where`.
std::string rate_of(const std::string& mebibytes, const std::string& where);

/// Adds what the map asks for and the command line does not say itself. Throws UsageError: encryption without a passphrase,
/// encryption together with compression unless that is `layered`.
void add_details(CommandLine& line, const Details& details, bool layered);

/// What --details and --zone of a command line say, added to it.
void add_details(CommandLine& line);

}  // namespace nasbackup::tools::cloudstack
