// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The manual page and the shell completion; see help.h.
#include <fmt/format.h>

#include "engine/nasbackup.h"
#include "tools/help.h"

namespace nasbackup::tools {

namespace {

/// Text for man(7): what roff would obey is escaped.
std::string roff(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '\\')
      safe += "\\e";
    else if (c == '-')
      safe += "\\-";
    else if (c == '\'')
      safe += "\\(aq";
    else
      safe += c;
  }
  return safe.starts_with(".") ? "\\&" + safe : safe;
}

std::string option_entry(const Option& option) {
  std::string names = option.letter == 0 ? "" : fmt::format("\\fB\\-{}\\fR, ", option.letter);
  names += fmt::format("\\fB\\-\\-{}\\fR", roff(option.name));
  if (option.value == Value::required) names += fmt::format(" \\fI{}\\fR", roff(option.metavar));
  if (option.value == Value::optional) names += fmt::format("[=\\fI{}\\fR]", roff(option.metavar));
  std::string text = fmt::format(".TP\n{}\n{}", names, roff(option.help));
  if (!option.choices.empty()) text += ": " + roff(option.choices);
  if (option.repeatable) text += "; may be repeated";
  if (!option.preset.empty()) text += fmt::format(". Default: {}", roff(option.preset));
  return text + ".\n";
}

std::string entries(Verbs verb, bool common) {
  std::string text;
  for (const Option& option : options())
    if ((option.verbs & verb) == verb && (option.verbs == kAllVerbs) == common) text += option_entry(option);
  return text;
}

constexpr std::string_view kPlaces = R"(.SH NAMES OF IMAGES
\fISRC\fR and \fIDST\fR are a path, \fBnbd://\fIHOST\fR[:\fIPORT\fR]\fB/\fIEXPORT\fR or
\fBnbd+unix:///\fIEXPORT\fB?socket=\fIPATH\fR, or an image of a Ceph cluster,
\fBrbd:\fIPOOL\fB/\fIIMAGE\fR[\fB@\fISNAPSHOT\fR][\fB:\fIOPTION\fB=\fIVALUE\fR...] as QEMU writes it. The target \fBnull:\fR takes everything and keeps nothing.
A \fISET\fR is a set's directory, or \fIDIR\fB/\fIVM\fR for its newest.
\fBdelete\fR takes the first alone.
.SH SIZES AND RATES
A size is a number of bytes, or a number with K, M, G, T (or KiB, MiB ...), powers of 1024. A rate is a number of MiB per
second, or a size, or a number of kbit, Mbit, Gbit.
)";

constexpr std::string_view kSignals = R"(.SH SIGNALS
SIGTERM and SIGINT end the run cleanly: the guest is free, nothing is published. So does SIGHUP when the run's terminal has gone;
else SIGHUP reads the limit in the configuration file again (rate, burst, rate\-schedule). A limit of the command line stays, and
so does the old one, with a warning, when the file is wrong. SIGUSR1 prints progress.
\fBserve\fR runs until it is ended so, and its exit status is then 0.
.SH ENVIRONMENT
.TP
\fBNO_COLOR\fR
When set and not empty nothing is coloured.
.TP
\fBNASBACKUP_PASSPHRASE_FILE\fR
The passphrase file where no other way to give a passphrase is used.
.SH FILES
.TP
\fI/etc/nasbackup/nasbackup.toml\fR
Options by their long names, as TOML: at the top for every verb, in a table such as [backup] for one. The command line wins. A flag
is true or false. Options that are about one run (disk, exclude, name, formats, force, force\-share, exec\-in\-job, json) do not
belong there.
.TP
\fI/run/nasbackup\fR
Locks of the runs of this host.
)";

/// One word of a `case`: the options of a verb as bash completes them.
std::string option_words(Verbs verb) {
  std::string words;
  for (const Option& option : options())
    if ((option.verbs & verb) != 0) words += fmt::format("{}--{}", words.empty() ? "" : " ", option.name);
  return words;
}

std::string value_case(const Option& option) {
  std::string pattern = fmt::format("--{}", option.name);
  if (option.letter != 0) pattern += fmt::format("|-{}", option.letter);
  std::string choices(option.choices);
  for (char& c : choices)
    if (c == '|') c = ' ';
  if (!choices.empty())
    return fmt::format("    {}) COMPREPLY=($(compgen -W \"{}\" -- \"$current\")); return ;;\n", pattern, choices);
  const std::string_view kind = option.metavar == "DIR"                                    ? "-d"
                                : option.metavar == "FILE" || option.metavar == "NAME|SRC" ? "-f"
                                                                                           : "";
  if (kind.empty()) return fmt::format("    {}) return ;;\n", pattern);
  return fmt::format("    {}) COMPREPLY=($(compgen {} -- \"$current\")); return ;;\n", pattern, kind);
}

}  // namespace

std::string manual_page() {
  std::string text = fmt::format(
      ".TH NASBACKUP 1 \"\" \"nasbackup {}\" \"User Commands\"\n.SH NAME\n"
      "nasbackup \\- back up KVM virtual machines to a NAS in one pass, as stock qcow2\n.SH SYNOPSIS\n",
      version());
  for (const Verb& verb : verbs())
    for (const std::string_view synopsis : {verb.operands, verb.second_synopsis})
      if (!synopsis.empty()) text += fmt::format(".B nasbackup {}\n{}\n[\\fIOPTION\\fR ...]\n.br\n", verb.name, roff(synopsis));
  text += ".SH DESCRIPTION\nEach verb does one thing. The result goes to standard output, messages to standard error.\n";
  for (const Verb& verb : verbs())
    text +=
        fmt::format(".SS nasbackup {} {}\n{}.\n{}", verb.name, roff(verb.operands), roff(verb.summary), entries(verb.bit, false));
  text += ".SS Options of every verb\n" + entries(kAllVerbs, true);
  text += ".TP\n\\fB\\-\\-version\\fR\nprint the version; in place of a verb.\n";
  text += kPlaces;
  text += ".SH EXIT STATUS\n";
  for (const ExitStatus& status : exit_statuses())
    text += fmt::format(".TP\n\\fB{}\\fR\n{}\n", status.number, roff(status.meaning));
  text += kSignals;
  text += ".SH EXAMPLES\n";
  for (const Example& example : examples())
    text += fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(example.command), roff(example.says));
  return text + ".SH SEE ALSO\n.BR qemu\\-img (1),\n.BR virsh (1)\n";
}

std::string bash_completion() {
  std::string names, cases, values;
  for (const Verb& verb : verbs()) {
    names += fmt::format("{}{}", names.empty() ? "" : " ", verb.name);
    cases += fmt::format("    {}) words=\"{}\" ;;\n", verb.name, option_words(verb.bit));
  }
  for (const Option& option : options())
    if (option.value == Value::required) values += value_case(option);
  std::string text =
      "# bash completion for nasbackup; made from the table of options\n_nasbackup() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words=\n  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n";
  text += fmt::format("    COMPREPLY=($(compgen -W \"{} --help --version\" -- \"$current\"))\n    return\n  fi\n", names);
  // readline takes '=' for the end of a word: "--progress=t" arrives as three.
  text += "  if [ \"$current\" = = ]; then current=; elif [ \"$previous\" = = ]; then previous=${COMP_WORDS[COMP_CWORD-2]}; fi\n";
  text += "  case $previous in\n" + values + "  esac\n";
  text += "  case ${COMP_WORDS[1]} in\n" + cases + "  esac\n";
  return text +
         "  case $current in\n    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$current\")) ;;\n"
         "    *) COMPREPLY=($(compgen -f -- \"$current\")) ;;\n  esac\n}\ncomplete -o filenames -F _nasbackup nasbackup\n";
}

}  // namespace nasbackup::tools
