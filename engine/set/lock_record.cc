// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Lock record; see lock_record.h.
#include "engine/set/lock_record.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cassert>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/io/fault.h"
#include "engine/set/set_name.h"
#include "engine/set/text.h"

namespace nasbackup::set {

namespace {

using Json = nlohmann::json;

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) throw Fault(FaultKind::failed, std::string(path) + ": cannot be read");
  return line;
}

/// Field 22 of /proc/self/stat. The command's name, field 2, may hold spaces and brackets: count from the last ')'.
std::uint64_t own_start_time() {
  const std::string line = first_line("/proc/self/stat");
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string field;
  for (int number = 3; number <= 22; ++number) fields >> field;
  return std::stoull(field);
}

std::string host_name() {
  utsname names{};
  return ::uname(&names) == 0 ? plain_text(names.nodename, 64) : std::string("?");
}

std::string identity_of(const std::string& directory) {
  struct stat status {};
  if (::stat(directory.c_str(), &status) != 0) {
    throw Fault(FaultKind::failed, directory + ": cannot look at it: " + std::strerror(errno));
  }
  return fmt::format("{}:{}", status.st_dev, status.st_ino);
}

/// A string of at most `limit` plain bytes; throws on everything else.
std::string text(const Json& object, const char* key, std::size_t limit) {
  const auto& value = object.at(key).get_ref<const std::string&>();
  if (value.size() > limit || !is_plain_text(value)) throw std::out_of_range(key);
  return value;
}

std::uint64_t count(const Json& object, const char* key) {
  if (!object.at(key).is_number_unsigned()) throw std::out_of_range(key);
  return object.at(key).get<std::uint64_t>();
}

}  // namespace

std::string LockRecord::holder() const { return fmt::format("run {} on host {} (pid {}) since {}", run_id, host, pid, since); }

LockRecord own_lock_record(const std::string& run_id, const std::string& run_directory) {
  LockRecord record;
  record.run_id = run_id;
  record.host = host_name();
  record.boot_id = first_line("/proc/sys/kernel/random/boot_id");
  record.run_directory = identity_of(run_directory);
  record.pid = static_cast<std::uint64_t>(::getpid());
  record.start_time = own_start_time();
  record.since = SetName::now().rfc3339();
  return record;
}

std::string write_lock_record(const LockRecord& record) {
  const Json json = {{"format", "nasbackup lock"}, {"version", 1},
                     {"run", record.run_id},       {"host", record.host},
                     {"boot", record.boot_id},     {"run_directory", record.run_directory},
                     {"pid", record.pid},          {"start_time", record.start_time},
                     {"since", record.since},      {"beat", record.beat}};
  std::string bytes = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  assert(bytes.size() < kLockRecordSize);
  bytes.resize(kLockRecordSize - 1, ' ');
  return bytes + '\n';
}

std::optional<LockRecord> read_lock_record(std::string_view bytes) {
  if (bytes.size() != kLockRecordSize) return std::nullopt;
  try {
    const Json json = Json::parse(bytes);
    if (text(json, "format", 32) != "nasbackup lock" || count(json, "version") != 1) return std::nullopt;
    LockRecord record;
    record.run_id = text(json, "run", 16);
    record.host = text(json, "host", 64);
    record.boot_id = text(json, "boot", 64);
    record.run_directory = text(json, "run_directory", 64);
    record.pid = count(json, "pid");
    record.start_time = count(json, "start_time");
    record.since = text(json, "since", 32);
    record.beat = count(json, "beat");
    return record;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace nasbackup::set
