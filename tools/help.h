// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The texts that come from the table in options.h. Pure functions.
#pragma once

#include <string>

#include "tools/options.h"

namespace nasbackup::tools {

/// `nasbackup --help`: about 40 lines.
std::string general_help();
/// `nasbackup VERB --help`.
std::string verb_help(const Verb& verb);
/// The manual page nasbackup(1), for man(7).
std::string manual_page();
/// The completion for bash.
std::string bash_completion();

}  // namespace nasbackup::tools
