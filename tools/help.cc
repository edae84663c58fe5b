// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Help for the terminal; see help.h.
#include "tools/help.h"

#include <fmt/format.h>

#include "engine/nasbackup.h"

namespace nasbackup::tools {

namespace {

constexpr std::size_t kWidth = 100;
constexpr std::size_t kIndent = 32;

/// "  -b, --rate RATE"
std::string left_of(const Option& option) {
  std::string text = option.letter == 0 ? "      " : fmt::format("  -{}, ", option.letter);
  text += fmt::format("--{}", option.name);
  if (option.value == Value::required) text += fmt::format(" {}", option.metavar);
  if (option.value == Value::optional) text += fmt::format("[={}]", option.metavar);
  return text;
}

std::string right_of(const Option& option) {
  std::string text(option.help);
  if (!option.choices.empty()) text += fmt::format(": {}", option.choices);
  if (option.repeatable) text += "; may be repeated";
  if (!option.preset.empty()) text += fmt::format(" (default: {})", option.preset);
  return text;
}

/// Two columns; the right one is wrapped between words.
std::string row(const std::string& left, std::string_view right) {
  std::string text;
  std::string line = left + std::string(left.size() < kIndent ? kIndent - left.size() : 1, ' ');
  while (!right.empty()) {
    const std::size_t space = std::min(right.find(' '), right.size());
    if (line.size() + space > kWidth) {
      text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
      line.assign(kIndent + 2, ' ');
    }
    line += std::string(right.substr(0, space)) + " ";
    right.remove_prefix(std::min(space + 1, right.size()));
  }
  return text + line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

std::string option_rows(Verbs verb, bool common) {
  std::string text;
  for (const Option& option : options())
    if ((option.verbs & verb) == verb && (option.verbs == kAllVerbs) == common) text += row(left_of(option), right_of(option));
  return text;
}

std::string exit_rows() {
  std::string text;
  const auto all = exit_statuses();
  for (std::size_t i = 0; i < all.size(); i += 2) {
    const std::string left = fmt::format("  {:<6} {}", all[i].number, all[i].meaning);
    text += i + 1 == all.size() ? left + "\n" : fmt::format("{:<48} {:<6} {}\n", left, all[i + 1].number, all[i + 1].meaning);
  }
  return text;
}

std::string example_rows(std::string_view verb) {
  std::string text;
  for (const Example& example : examples())
    if (verb.empty() || example.command.starts_with(fmt::format("nasbackup {} ", verb)))
      text += fmt::format("  {}\n      {}\n", example.command, example.says);
  return text;
}

}  // namespace

std::string general_help() {
  std::string text =
      fmt::format("nasbackup {}: back up KVM virtual machines to a NAS in one pass, as stock qcow2.\n\nUsage:\n", version());
  for (const Verb& verb : verbs()) {
    text += row(fmt::format("  nasbackup {} {}", verb.name, verb.operands), "");
    text += fmt::format("      {}\n", verb.summary);
    if (!verb.second_synopsis.empty()) text += fmt::format("  nasbackup {} {}\n", verb.name, verb.second_synopsis);
  }
  text += "\nOptions of every verb (nasbackup VERB --help lists all of them):\n" + option_rows(kAllVerbs, true);
  text += "      --version\n";
  text += "\nExamples:\n" + example_rows("") + "\nExit status:\n" + exit_rows();
  return text +
         "\nThe result goes to stdout, messages to stderr. SIGTERM and SIGINT end cleanly, SIGUSR1 prints progress, "
         "SIGHUP\nreads the configured limit again.\n";
}

std::string verb_help(const Verb& verb) {
  std::string text = fmt::format("nasbackup {} {}\n", verb.name, verb.operands);
  if (!verb.second_synopsis.empty()) text += fmt::format("nasbackup {} {}\n", verb.name, verb.second_synopsis);
  text += fmt::format("    {}\n\nOptions:\n", verb.summary) + option_rows(verb.bit, false) + option_rows(verb.bit, true);
  const std::string shown = example_rows(verb.name);
  if (!shown.empty()) text += "\nExamples:\n" + shown;
  return text + "\nExit status:\n" + exit_rows();
}

}  // namespace nasbackup::tools
