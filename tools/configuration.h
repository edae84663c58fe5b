// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The configuration file: TOML whose keys are long names of options, at the top for every verb and in a table for one ([backup]).
// It is checked by the table in options.h like a command line, which wins over it. Functions without state; they read the file.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "tools/command_line.h"

namespace nasbackup::tools {

/// Where it is looked for when none is named.
inline constexpr char kDefaultConfiguration[] = "/etc/nasbackup/nasbackup.toml";
/// The table that is no verb's: tools/cloudstack/zone.h.
inline constexpr char kCloudStackTable[] = "cloudstack";

struct ConfiguredValue {
  std::vector<std::string> values;  ///< as on a command line; none: a flag that is said to be off
  std::string place;                ///< "FILE:LINE"
};

/// By the option's long name.
using ConfiguredOptions = std::map<std::string, ConfiguredValue, std::less<>>;

/// What the file says for the verb. All of it is checked, whatever the verb. Throws UsageError, "FILE:LINE: what"; also when the
/// file is not there, unless it need not be.
ConfiguredOptions read_configuration(const std::string& path, bool must_exist, const Verb& verb,
                                     std::span<const Option> table = options());

/// Adds what the command line does not say itself. The limit is one thing: who names a rate or a schedule names all of it.
void add_configured(CommandLine& line, const ConfiguredOptions& configured);

/// Reads the file that --config names, or the default one, and adds it.
void add_configuration(CommandLine& line);

}  // namespace nasbackup::tools
