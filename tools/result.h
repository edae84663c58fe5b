// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a run came to: one JSON object, made where the work was done, sent to the supervisor, and shown there as it is or as text
// for people. Pure but for perform().
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/request.h"

namespace nasbackup::tools {

using Json = nlohmann::ordered_json;

/// Runs the verb. Never throws what the library reports: an error is a result too.
Json perform(const Request& request, const JobControl& control);

/// Reads the passphrases of a backup into its options, from where the request says that they are. Throws nasbackup::Error.
void take_passphrases(Request& request, const JobControl& control);

/// {"error": …, "outcome": …, "exit_status": …}.
Json error_result(Outcome outcome, const std::string& message);
/// The same for a run that a signal has ended.
Json signal_result(int number, const std::string& message);

int exit_status(const Json& result);

/// The result as people read it, several lines; empty for an error, which is a message.
std::string text_of(const Request& request, const Json& result);
/// Where the time went, one line for each disk; for -v.
std::vector<std::string> stage_lines(const Json& result);

}  // namespace nasbackup::tools
