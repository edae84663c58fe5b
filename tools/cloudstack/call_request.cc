// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See call_request.h. Numbers in brackets are those of cloudstack-contract.md.
#include "tools/cloudstack/call_request.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "tools/cloudstack/details.h"
#include "tools/printable.h"

namespace nasbackup::tools::cloudstack {

namespace {

constexpr char kAgentLog[] = "/var/log/cloudstack/agent/agent.log";
constexpr char kDeadline[] = "21600";  // [3.10]

bool is_incremental(const std::string& mode) { return mode == "incremental" || mode == "content-incremental"; }

/// VM/TIME: nothing that leaves the storage, or is the storage [3.6].
void check_path(const std::string& path) {
  const auto refuse = [&] { throw CallError("Backup path '" + printable(path) + "': must be VM/TIME below the storage"); };
  const std::size_t slash = path.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == path.size() || path.find('/', slash + 1) != std::string::npos)
    refuse();
  for (const std::string& name : {path.substr(0, slash), path.substr(slash + 1)})
    if (name.front() == '.' || name.find('\0') != std::string::npos) refuse();
}

std::string without_last_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

class Maker {
 public:
  Maker(const Call& call, const Zone& zone) : call_(call), zone_(zone) {}

  Request make() {
    add_verb();
    add_configured(line_, zone_.options);
    add_environment();
    if (is_backup()) add_backup();
    drop_foreign_options();
    Request request = make_request(line_);
    request.hangup_ends = true;
    request.backup.connect = connect_;
    if (request.log_file.empty()) request.log_file = default_log();
    add_storage(request);
    if (is_backup()) add_backup(request);
    return request;
  }

 private:
  void set(const std::string& option, const std::string& value) {
    line_.values[option] = {value};
    line_.places.erase(option);
  }
  void drop(const std::string& option) {
    line_.values.erase(option);
    line_.places.erase(option);
  }

  bool is_backup() const { return call_.operation == "backup"; }

  /// What is neither a backup nor a deletion needs a verb only for the options that all verbs have.
  void add_verb() {
    line_.verb = find_verb(is_backup() ? "backup" : "list");
    line_.operands = {is_backup() ? call_.vm : "."};
    if (is_backup()) set("to", "/");  // where the storage will be mounted
  }

  /// The file's options are those of a backup.
  void drop_foreign_options() {
    connect_ = line_.has("connect") ? *line_.value("connect") : connect_;
    for (const Option& option : options())
      if ((option.verbs & line_.verb->bit) == 0) drop(std::string(option.name));
  }

  /// An agent that is not installed has no log.
  static std::string default_log() {
    std::error_code ignored;
    return std::filesystem::is_directory(std::filesystem::path(kAgentLog).parent_path(), ignored) ? kAgentLog : "";
  }

  void add_backup() {
    if (call_.vm.empty()) throw CallError("Option -v|--vm: which VM?");
    check_mode();
    add_compression();
    add_encryption();
    add_bandwidth();
    add_verification();
    if (call_.quiesce == "true") set("quiesce", "");
    if (call_.quiesce == "true" && !call_.quiesce_timeout.empty()) set("quiesce-timeout", call_.quiesce_timeout);
    if (call_.scratch_or_secrets.starts_with('/')) set("scratch", call_.scratch_or_secrets);
  }

  void check_mode() const {
    const std::string& mode = call_.mode;
    const bool known = mode.empty() || mode == "legacy-full" || mode == "full" || mode == "content-full" || is_incremental(mode);
    if (!known) throw CallError("Unknown mode: " + printable(mode));
    if ((mode == "full" || mode == "incremental") && call_.bitmap_new.empty())
      throw CallError(mode + " mode requires --bitmap-new");
    if (is_incremental(mode) && (compresses() || encrypts()))
      throw CallError("Incremental mode cannot be combined with compression or encryption");
    if (mode == "incremental" && call_.bitmap_parent.empty()) throw CallError("incremental mode requires --bitmap-parent");
  }

  bool compresses() const { return call_.compress || zone_.compression; }
  bool encrypts() const { return call_.encrypt || zone_.encryption; }

  /// The file's codec counts when compression is switched on, by whomever.
  void add_compression() {
    if (!compresses()) return drop("compress");
    if (encrypts() && !zone_.layered) throw CallError(kBothRefused);
    if (!line_.has("compress")) set("compress", "");
  }

  void add_encryption() {
    if (call_.encrypt) {
      if (call_.passphrase_file.empty()) throw CallError("Encryption passphrase file not found: the value of -e is empty");
      for (const char* option : {"encrypt-fd", "encrypt-command"}) drop(option);
      return set("encrypt", call_.passphrase_file);
    }
    const bool has_place = line_.has("encrypt") || line_.has("encrypt-command");
    if (!zone_.encryption) {
      for (const char* option : {"encrypt", "encrypt-fd", "encrypt-command"}) drop(option);
      return;
    }
    const std::string where = printable(zone_.file) + ": nas.backup.encryption.enabled";
    if (!zone_.restore_opens_encrypted)
      throw CallError(
          where +
          " without restore_opens_encrypted = true: a CloudStack without PR #12898 would copy the encrypted file over "
          "the VM's disk at restore");
    line_.passphrase = as_passphrase(zone_.passphrase);
    if (!line_.passphrase && !has_place) throw CallError(where + ": there is no passphrase (nas.backup.encryption.passphrase)");
  }

  void add_bandwidth() {
    const std::string& text = call_.bandwidth;
    if (text.empty() && zone_.bandwidth == 0) return;
    drop("rate-schedule");
    const std::string rate = rate_of(text.empty() ? std::to_string(zone_.bandwidth) : text, "Option -b|--bandwidth");
    if (rate.empty()) return drop("burst");
    set("rate", rate);
  }

  void add_verification() {
    if (!call_.verify && !zone_.integrity_check) return drop("verify");
    if (!line_.has("verify")) set("verify", "");
  }

  void add_environment() {
    const auto from = [&](const char* variable, const char* option) {
      const char* value = std::getenv(variable);
      if (value != nullptr && *value != '\0') set(option, value);
    };
    from("BACKUP_TIMEOUT", "deadline");
    from("MIN_FREE_SPACE", "min-free");
    if (!line_.has("deadline")) set("deadline", kDeadline);
  }

  void add_storage(Request& request) const {
    StorageCall storage;
    storage.storage = {call_.type, call_.storage, call_.mount_options, request.io_timeout};
    storage.path = without_last_slash(call_.path);
    if (call_.operation == "backup") storage.task = StorageTask::back_up;
    if (call_.operation == "delete") storage.task = StorageTask::remove;
    if (call_.operation == "stats") storage.task = StorageTask::tell_use;
    const bool named = !call_.type.empty() && !call_.storage.empty();
    if (storage.task != StorageTask::nothing && !named) throw CallError("Options -t|--type and -s|--storage: which storage?");
    if (storage.task == StorageTask::back_up || storage.task == StorageTask::remove) check_path(storage.path);
    request.storage = std::move(storage);
  }

  void add_backup(Request& request) const {
    BackupOptions& backup = request.backup;
    backup.set = request.storage->path;
    backup.open_to_all = true;
    backup.stopped_disks = comma_list(call_.disk_paths);
    if (is_checkpointed()) backup.checkpoint = call_.bitmap_new;
    if (call_.mode == "incremental") backup.named_parent = NamedParent{call_.bitmap_parent, comma_list(call_.parent_paths)};
    for (const std::string& pair : comma_list(call_.key_files))
      request.source_keys.push_back(place_of_file(pair.substr(pair.find(':') + 1)));
  }

  bool is_checkpointed() const { return call_.mode == "full" || call_.mode == "incremental"; }

  const Call& call_;
  const Zone& zone_;
  CommandLine line_;
  std::string connect_ = BackupOptions().connect;
};

}  // namespace

bool asks_for_increment(const Call& call) { return is_incremental(call.mode); }

Request make_call_request(const Call& call, const Zone& zone) { return Maker(call, zone).make(); }

}  // namespace nasbackup::tools::cloudstack
