// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The command: reads the command line, runs the verb under the supervisor, shows the result. stdout carries the result, stderr
// the messages.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tools/cloudstack/details.h"
#include "tools/cloudstack/front_end.h"
#include "tools/configuration.h"
#include "tools/help.h"
#include "tools/printable.h"
#include "tools/supervisor.h"

namespace nasbackup::tools {

namespace {

// Descriptors 0 to 2 must be there before anything else is opened.
void fill_stdio() {
  while (true) {
    const int fd = ::open("/dev/null", O_RDWR);
    if (fd <= STDERR_FILENO && fd >= 0) continue;
    if (fd >= 0) ::close(fd);
    break;
  }
}

/// False, with a message, when stdout cannot take it.
bool print(const std::string& text) {
  if (write_all(STDOUT_FILENO, text)) return true;
  Console(STDERR_FILENO, false).line(std::string("nasbackup: stdout: ") + std::strerror(errno));
  return false;
}

std::string pretty(const Json& result) { return result.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

/// What is no verb: help, version, and what is made from the table when this is built. Empty: a verb, or nothing that we know.
std::string text_without_verb(const std::vector<std::string>& words) {
  if (words.size() != 1) return {};
  if (words[0] == "--help" || words[0] == "-h") return general_help();
  if (words[0] == "--version") return std::string("nasbackup ") + version() + "\n";
  if (words[0] == "--manual-page") return manual_page();
  return words[0] == "--bash-completion" ? bash_completion() : std::string();
}

void tell(const Request& request, const Json& result, Console& console, LogFile& log) {
  std::vector<std::string> lines;
  if (request.verbose) lines = stage_lines(result);
  if (result.contains("warnings"))
    for (const Json& warning : result["warnings"]) lines.push_back("warning: " + warning.get<std::string>());
  if (result.contains("error")) lines.push_back(result["error"].get<std::string>());
  for (const std::string& line : lines) {
    console.line("nasbackup: " + line);
    log.line("nasbackup: " + line);
  }
  log.line("nasbackup: " + result["outcome"].get<std::string>() + ", exit status " + std::to_string(exit_status(result)));
  console.finish();
}

int finish(bool json, const Json& result, const std::string& text) {
  const int status = exit_status(result);
  const bool printed = print(json ? pretty(result) : text);
  return printed || status != 0 ? status : static_cast<int>(Outcome::done_with_warnings);
}

int run_verb(Request request) {
  // What the caller has open beside stdio and the passphrases must not stay open in a worker that is left behind.
  close_all_but(request.secrets());
  block_signals();
  keep_out_of_core_files(request);
  Console console(STDERR_FILENO, request.progress == ProgressStyle::json);
  Json result;
  std::string text;
  try {
    LogFile log(request.log_file, request.io_timeout, std::as_const(request).secrets());
    result = supervise(request, console, log);
    text = text_of(request, result);
    tell(request, result, console, log);
  } catch (const Error& error) {
    result = error_result(error.outcome(), error.what());
    console.line(std::string("nasbackup: ") + error.what());
    console.finish();
  }
  return finish(request.json, result, text);
}

int run(const std::vector<std::string>& words, PassphrasePlaces storage_keys) {
  const std::string text = text_without_verb(words);
  if (!text.empty()) return print(text) ? 0 : 1;
  const auto options_end = std::find(words.begin(), words.end(), "--");
  const bool json = std::find(words.begin(), options_end, "--json") != options_end;
  try {
    CommandLine line = parse_command_line(words);
    if (line.has("help")) return print(verb_help(*line.verb)) ? 0 : 1;
    cloudstack::add_details(line);
    add_configuration(line);
    Request request = make_request(line);
    request.storage_keys = std::move(storage_keys);
    return run_verb(std::move(request));
  } catch (const UsageError& error) {
    Console(STDERR_FILENO, false).line(std::string("nasbackup: ") + error.what());
    return finish(json, error_result(Outcome::usage, error.what()), "");
  }
}

}  // namespace

}  // namespace nasbackup::tools

int main(int argc, char** argv) {
  nasbackup::tools::fill_stdio();
  std::vector<std::string> words;
  auto storage_keys = nasbackup::tools::take_storage_keys({argv + 1, argv + argc}, words);
  // Not by return: what asks libvirt in a thread of its own may still be at it.
  namespace tools = nasbackup::tools;
  ::_exit(tools::cloudstack::is_front_end(argv[0]) ? tools::cloudstack::run_call(words, std::move(storage_keys))
                                                   : tools::run(words, std::move(storage_keys)));
}
