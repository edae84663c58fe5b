// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See front_end.h. Numbers in brackets are those of cloudstack-contract.md.
#include "tools/cloudstack/front_end.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "tools/cloudstack/call_request.h"
#include "tools/cloudstack/turn.h"
#include "tools/configuration.h"
#include "tools/descriptor.h"
#include "tools/printable.h"
#include "tools/supervisor.h"

namespace nasbackup::tools::cloudstack {

namespace {

constexpr std::string_view kName = "nasbackup.sh";
constexpr int kFailed = 1;
constexpr int kCleanupFailed = 20;
constexpr int kNoConsole = -1;  // nobody reads stderr, and a full pipe would stop us [R2]

int print(const std::string& text, int status) { return write_all(STDOUT_FILENO, text) || status != 0 ? status : kFailed; }

std::string configuration_path() {
  const char* named = std::getenv("NASBACKUP_CONFIG");
  return named != nullptr && *named != '\0' ? named : kDefaultConfiguration;
}

std::string size_text(const Call& call, const Zone& zone, const Json& result) {
  const auto bytes = result["set_bytes"].get<std::uint64_t>();
  const bool falls_back = asks_for_increment(call) && result["kind"] != "increment";
  std::string text = falls_back ? "INCREMENTAL_FALLBACK=true\n" : "";          // [R9]
  if (zone.size_marker) text += fmt::format("BACKUP_SIZE_TOTAL={}\n", bytes);  // [R11]
  return text + fmt::format("{}\n", bytes);
}

/// What Java reads of a success.
std::string success_text(const Call& call, const Zone& zone, const Json& result) {
  if (result.contains("set_bytes")) return size_text(call, zone, result);
  if (!result.contains("mount_point")) return {};
  return fmt::format("{}\n{} {}\n", result["mount_point"].get<std::string>(), result["total"].get<std::uint64_t>() / 1024,
                     result["used"].get<std::uint64_t>() / 1024);
}

std::string failure_text(const Request& request, const Json& result) {
  if (result.contains("past_deadline")) return timed_out_text(request);
  return printable(result["error"].get<std::string>());
}

int tell_failure(const Request& request, const Json& result, LogFile& log) {
  const std::string line = failure_text(request, result);
  log.line(line);
  const bool left = result.contains("left_behind");
  if (left) log.line("Backup cleanup failed");
  return print(line + (left ? "\nBackup cleanup failed\n" : "\n"), left ? kCleanupFailed : kFailed);
}

int tell(const Call& call, const Zone& zone, const Request& request, const Json& result, LogFile& log) {
  if (result.contains("error")) return tell_failure(request, result, log);
  if (result.contains("warnings"))
    for (const Json& warning : result["warnings"]) log.line("warning: " + warning.get<std::string>());
  if (call.mode == "content-incremental")
    log.line("content-incremental: a full backup instead, since there is no bitmap to go by");
  if (result.contains("disks"))
    for (const Json& disk : result["disks"])
      if (disk["full_because"].is_string())
        log.line(
            fmt::format("{}: a full backup of it: {}", disk["name"].get<std::string>(), disk["full_because"].get<std::string>()));
  const bool verified = result.contains("verified") && result["verified"] == "data";
  log.line(
      fmt::format("{} {}: done{}", call.operation, printable(request.storage->path), verified ? ", read back and compared" : ""));
  return print(success_text(call, zone, result), 0);
}

/// A log that cannot be written is no reason to have no backup.
std::unique_ptr<LogFile> open_log(const Request& request) {
  try {
    return std::make_unique<LogFile>(request.log_file, request.io_timeout, request.secrets(), LogStyle::cloudstack);
  } catch (const Error&) {
    return std::make_unique<LogFile>("", request.io_timeout, request.secrets(), LogStyle::cloudstack);
  }
}

int run_request(const Call& call, const Zone& zone, Request request) {
  close_all_but(request.secrets());
  keep_out_of_core_files(request);
  Console console(kNoConsole, false);
  const std::unique_ptr<LogFile> log = open_log(std::as_const(request));
  const Turn turn(zone, request, *log);
  request.waited = turn.waited();
  return tell(call, zone, request, supervise(request, console, *log), *log);
}

int run_unguarded(const std::vector<std::string>& words, PassphrasePlaces storage_keys) {
  const Call call = parse_call(words);
  if (call.help) return print(usage_text(), kFailed);
  const std::string path = configuration_path();
  const Zone zone = read_zone(path, path != kDefaultConfiguration, "");
  Request request = make_call_request(call, zone);
  request.storage_keys = std::move(storage_keys);
  return run_request(call, zone, std::move(request));
}

}  // namespace

bool is_front_end(const char* program) noexcept {
  const std::string_view path = program == nullptr ? "" : program;
  return path.substr(path.rfind('/') + 1) == kName;
}

int run_call(const std::vector<std::string>& words, PassphrasePlaces storage_keys) {
  block_signals();  // one that comes now is answered in a line, too
  try {
    return run_unguarded(words, std::move(storage_keys));
  } catch (const CallError& error) {
    const std::string line = error.what();
    return print(line + "\n" + (line.starts_with("Invalid option:") ? usage_text() : ""), kFailed);
  } catch (const std::exception& error) {  // UsageError, Error
    return print(printable(error.what()) + "\n", kFailed);
  }
}

}  // namespace nasbackup::tools::cloudstack
