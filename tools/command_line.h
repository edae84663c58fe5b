// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Words of a command line to a verb, its operands and its options, by the rules of the table in options.h. Pure functions; safe
// everywhere.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/nasbackup.h"
#include "tools/options.h"

namespace nasbackup::tools {

/// The user wrote something else than we take; what() is one line that says what to write instead.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What was asked for. Options have their long names here, whichever form was written.
struct CommandLine {
  const Verb* verb = nullptr;
  std::vector<std::string> operands;
  std::map<std::string, std::vector<std::string>, std::less<>> values;  ///< of a flag: an empty string
  std::map<std::string, std::string, std::less<>> places;               ///< of what a file says: "FILE:LINE"
  std::shared_ptr<const Passphrase> passphrase;  ///< encrypts, where none of the options names one; of a details map; null: none

  bool has(std::string_view option) const { return values.contains(option); }
  /// Whether it was written on the command line itself.
  bool written(std::string_view option) const { return has(option) && !places.contains(option); }
  /// The option's value, or nothing when it was not given.
  const std::string* value(std::string_view option) const;
  std::vector<std::string> all(std::string_view option) const;
};

/// `words` begins with the verb. Options and operands may be mixed, "--" ends the options, names are not abbreviated. Throws
/// UsageError, also for too few or too many operands.
CommandLine parse_command_line(std::span<const std::string> words, std::span<const Option> table = options());

/// Empty when the option takes this value; else what it takes: "a, b or c".
std::string choices_instead(const Option& option, std::string_view value);

/// The candidate that `word` was probably meant to be; empty when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace nasbackup::tools
