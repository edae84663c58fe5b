// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The one table of verbs and options. The parser, every help text, the man page and the shell completion are made from it, so
// that none of them can know an option that the others do not. Constant data, safe everywhere.
#pragma once

#include <span>
#include <string_view>

namespace nasbackup::tools {

/// Whether an option takes a value. An optional value is attached with '=', in the long and in the short form, and is never the
/// next word.
enum class Value { none, required, optional };

/// The verbs as a set, for Option::verbs.
using Verbs = unsigned;
inline constexpr Verbs kBackup = 1, kConvert = 2, kInfo = 4, kList = 8, kKey = 16, kTune = 32, kCheck = 64, kServe = 128;
inline constexpr Verbs kVerify = 256, kRestore = 512, kDelete = 1024, kDetails = 2048, kMerge = 4096;
inline constexpr Verbs kTransfers = kBackup | kConvert | kMerge;
inline constexpr Verbs kStored = kVerify | kRestore;           ///< read what was backed up
inline constexpr Verbs kMoving = kTransfers | kTune;           ///< read a disk through the pipeline
inline constexpr Verbs kReading = kMoving | kStored | kServe;  ///< read a disk at a rate
inline constexpr Verbs kAllVerbs = kReading | kInfo | kList | kDelete | kDetails | kKey | kCheck;

struct Option {
  std::string_view name;  ///< without the dashes
  char letter = 0;        ///< 0: none
  Value value = Value::none;
  std::string_view metavar;  ///< what the help calls the value; DIR and FILE are completed as such
  Verbs verbs = kAllVerbs;
  std::string_view help;    ///< without the default
  std::string_view preset;  ///< what holds when it is not given; empty: nothing to say
  bool repeatable = false;
  std::string_view choices;  ///< "a|b|c"; empty: anything
  bool per_run = false;      ///< not for the configuration file: about one run, or dangerous to forget there
};

struct Verb {
  Verbs bit = 0;
  std::string_view name;
  std::string_view operands;  ///< as in the synopsis
  unsigned min_operands = 0;
  unsigned max_operands = 0;
  std::string_view summary;
  std::string_view second_synopsis;  ///< another way to call it; empty: none
};

struct Example {
  std::string_view command;
  std::string_view says;
};

struct ExitStatus {
  std::string_view number;
  std::string_view meaning;
};

std::span<const Verb> verbs() noexcept;
std::span<const Option> options() noexcept;
std::span<const Example> examples() noexcept;
std::span<const ExitStatus> exit_statuses() noexcept;

/// Null when there is none of that name.
const Verb* find_verb(std::string_view name) noexcept;

}  // namespace nasbackup::tools
