// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See request.h.
#include "tools/request.h"

#include <algorithm>
#include <cstdlib>
#include <initializer_list>

#include "tools/configuration.h"
#include "tools/printable.h"
#include "tools/quantities.h"

namespace nasbackup::tools {

namespace {

// Beyond these nobody means it; the library has limits of its own.
constexpr unsigned kMostThreads = 1024;
constexpr unsigned kMostConnections = 64;
constexpr unsigned kMostIterations = 1u << 28;
constexpr unsigned kMostDescriptors = 1u << 20;
constexpr unsigned kMostPort = 65535;

/// Reads the options of one command line; errors name the verb.
class Reader {
 public:
  explicit Reader(const CommandLine& line) : line_(line) {}

  Request read() {
    Request request;
    request.verb = line_.verb->bit;
    request.verb_name = line_.verb->name;
    read_common(request);
    if (request.verb == kBackup)
      read_backup(request.backup, request.io_timeout);
    else if (request.verb == kConvert)
      read_convert(request.convert, request.io_timeout);
    else if (request.verb == kTune)
      read_tune(request.tune, request.io_timeout);
    else if (request.verb == kVerify)
      read_verify(request);
    else if (request.verb == kRestore)
      read_restore(request);
    else if (request.verb == kMerge)
      read_merge(request);
    else if (request.verb == kServe)
      read_serve(request.serve, request.io_timeout);
    else if (request.verb == kKey)
      read_key(request);
    else if (!line_.operands.empty())
      request.path = line_.operands.front();
    if (request.verb == kCheck) read_check(request);
    if (request.verb == kDelete) read_delete(request);
    if (request.verb == kDetails) read_details(request);
    if ((request.verb & (kInfo | kStored | kCheck | kServe)) != 0) request.passphrases = opening_places();
    if ((request.verb & kMoving) != 0) request.passphrases = encrypting_place();
    for (const std::string& path : line_.all("source-key")) request.source_keys.push_back(place_of_file(path));
    request.limit_written = line_.written("rate") || line_.written("rate-schedule");
    if (line_.written("burst")) request.burst_written = text("burst");
    request.priority = priority(text("priority"), request.transfer());
    return request;
  }

  RateLimit limit() {
    RateLimit result;
    if (line_.has("rate")) result.rate = parse_rate(named("rate"), text("rate"));
    if (line_.has("rate-schedule")) result.schedule = parse_rate_schedule(named("rate-schedule"), text("rate-schedule"));
    if (line_.has("rate") && line_.has("rate-schedule"))
      refuse("rate-schedule", "--rate and --rate-schedule contradict each other: write one of them");
    result.per_disk = line_.has("rate-per-disk");
    if (!line_.has("burst")) return result;
    result.burst = parse_size(named("burst"), text("burst"));
    if (!result) refuse("burst", "--burst without a limit means nothing: write --rate too");
    if (result.burst == 0) refuse("burst", "--burst 0: write a size such as 1M, or leave it out");
    return result;
  }

 private:
  void read_common(Request& request) {
    request.json = line_.has("json");
    request.verbose = line_.has("verbose");
    request.progress = progress_style(text("progress"));
    request.log_file = text("log-file");
    request.config = line_.has("config") ? text("config") : kDefaultConfiguration;
    if (line_.has("io-timeout")) request.io_timeout = parse_seconds(named("io-timeout"), text("io-timeout"));
    if (line_.has("deadline")) request.deadline = parse_seconds(named("deadline"), text("deadline"));
  }

  static ProgressStyle progress_style(const std::string& word) {
    if (word == "tty") return ProgressStyle::terminal;
    if (word == "json") return ProgressStyle::json;
    return word == "none" ? ProgressStyle::none : ProgressStyle::automatic;
  }

  static Priority priority(const std::string& word, const TransferOptions& options) {
    if (word == "low") return Priority::low;
    if (word == "idle") return Priority::idle;
    const bool limited = options.limit || !options.rate_group.empty();
    return word != "normal" && limited ? Priority::low : Priority::normal;
  }

  void read_transfer(TransferOptions& options, std::chrono::seconds io_timeout) {
    options.io_timeout = io_timeout;
    if (line_.has("threads")) options.threads = parse_count(named("threads"), text("threads"), kMostThreads);
    if (line_.has("connections")) options.connections = parse_count(named("connections"), text("connections"), kMostConnections);
    if (line_.has("item-size")) options.item_size = parse_size(named("item-size"), text("item-size"));
    if (line_.has("memory")) options.memory = parse_size(named("memory"), text("memory"));
    if (line_.has("cluster-size")) options.cluster_size = parse_size(named("cluster-size"), text("cluster-size"));
    if (line_.has("compress")) options.compression = text("compress").empty() ? "zlib" : text("compress");
    options.limit = limit();
    options.rate_group = text("rate-group");
    read_stretching(options.pbkdf_iterations, options.allow_weak_pbkdf);
  }

  /// What a configuration file asks for in general means nothing where nothing is kept.
  VerifyLevel verify_level(bool keeps_nothing) const {
    if (!line_.has("verify")) return VerifyLevel::none;
    if (keeps_nothing && line_.written("verify"))
      refuse("--verify: null: keeps nothing that could be read back: leave one of them out");
    if (keeps_nothing) return VerifyLevel::none;
    return text("verify") == "metadata" ? VerifyLevel::metadata : VerifyLevel::data;
  }

  /// On the command line --full goes before --incremental in a configuration file, and the other way round.
  ChainPart chain_part(bool keeps_nothing) const {
    const bool full = line_.has("full"), increment = line_.has("incremental");
    if (line_.written("full") && line_.written("incremental")) refuse("--full, --incremental: write one of them");
    if (!full && !increment) return ChainPart::none;
    if (keeps_nothing && (line_.written("full") || line_.written("incremental")))
      refuse("--incremental, --full: null: keeps nothing on which an increment could stand: leave one of them out");
    if (keeps_nothing) return ChainPart::none;
    return increment && !line_.written("full") ? ChainPart::increment : ChainPart::full;
  }

  void read_backup(BackupOptions& options, std::chrono::seconds io_timeout) {
    read_transfer(options, io_timeout);
    options.to = text("to");
    options.verify = verify_level(options.to == "null:");
    options.source_format = text("source-format");
    if (line_.has("min-free")) options.min_free = parse_size(named("min-free"), text("min-free"));
    if (line_.operands.empty())
      read_images(options);
    else
      read_domain(options);
    if (options.to.empty()) refuse("where to? write --to DIR");
  }

  void read_images(BackupOptions& options) {
    options.sources = line_.all("disk");
    options.vm = text("name");
    options.allow_plaintext = line_.has("allow-plaintext");
    if (options.sources.empty()) refuse("of what? write nasbackup backup VM --to DIR, or --disk SRC --name NAME --to DIR");
    if (options.vm.empty()) refuse("--disk without a VM needs a name for the set: write --name NAME");
    for (const char* option :
         {"exclude", "quiesce", "quiesce-timeout", "scratch", "exec-in-job", "connect", "incremental", "full"})
      if (line_.written(option))
        refuse("--" + std::string(option) + " is about a VM: write nasbackup backup VM --to DIR, or leave it out");
  }

  void read_domain(BackupOptions& options) {
    options.vm = line_.operands.front();
    options.disks = line_.all("disk");
    options.exclude = line_.all("exclude");
    options.quiesce = line_.has("quiesce");
    options.scratch = text("scratch");
    options.chain = chain_part(options.to == "null:");
    options.parent = text("incremental");
    options.allow_plaintext = line_.has("allow-plaintext");
    options.exec_in_job = text("exec-in-job");
    if (line_.has("connect")) options.connect = text("connect");
    if (line_.has("quiesce-timeout")) options.quiesce_timeout = parse_seconds(named("quiesce-timeout"), text("quiesce-timeout"));
    check_domain(options);
  }

  void check_domain(const BackupOptions& options) {
    if (line_.has("name")) refuse("--name is for images without a VM: leave it out, the set is called " + printable(options.vm));
    if (line_.has("source-format")) refuse("-f is for images without a VM: leave it out, a VM's XML names the formats");
    if (line_.written("quiesce-timeout") && !options.quiesce)
      refuse("--quiesce-timeout without --quiesce means nothing: write --quiesce too");
    for (const std::string& disk : options.disks)
      if (std::count(options.exclude.begin(), options.exclude.end(), disk) != 0)
        refuse("--disk " + printable(disk) + " and --exclude " + printable(disk) + " contradict each other: write one of them");
  }

  void read_convert(ConvertOptions& options, std::chrono::seconds io_timeout) {
    read_transfer(options, io_timeout);
    options.source = line_.operands[0];
    options.target = line_.operands[1];
    options.source_format = text("source-format");
    if (line_.has("target-format")) options.target_format = text("target-format");
    options.shared_source = line_.has("force-share");
    options.force = line_.has("force");
    options.verify = verify_level(options.target == "null:");
    if (options.target_format == "raw" && options.verify == VerifyLevel::metadata) {
      if (line_.written("verify")) refuse("--verify=metadata: a raw image has none: write --verify=data");
      options.verify = VerifyLevel::none;
    }
    if (!options.target_format.empty() && options.target_format != "qcow2" && !line_.written("compress"))
      options.compression.clear();
    if (options.target_format == "raw" && line_.written("cluster-size"))
      refuse("--cluster-size means nothing with -O raw: leave it out");
  }

  void read_tune(TuneOptions& options, std::chrono::seconds io_timeout) {
    read_transfer(options, io_timeout);
    options.source = line_.operands[0];
    options.source_format = text("source-format");
    options.shared_source = line_.has("force-share");
    options.to = text("to");
    if (line_.has("budget")) options.budget = parse_seconds(named("budget"), text("budget"));
  }

  void read_verify(Request& request) {
    read_transfer(request.verify, request.io_timeout);
    request.path = request.verify.path = line_.operands[0];
    request.verify.source_format = text("source-format");
    request.verify.against = line_.all("against");
    if (line_.has("sample")) request.verify.sample = parse_percent(named("sample"), text("sample"));
    if (line_.written("source-key") && request.verify.against.empty())
      refuse("--source-key without --against means nothing: what is verified is opened by -e");
  }

  void read_restore(Request& request) {
    RestoreOptions& options = request.restore;
    read_transfer(options, request.io_timeout);
    request.path = options.path = line_.operands[0];
    options.source_format = text("source-format");
    options.target_format = text("target-format");
    options.to = text("to");
    options.force = line_.has("force");
    options.dry_run = line_.has("dry-run");
    options.new_name = text("new-name");
    options.new_uuid = line_.has("new-uuid");
    options.new_macs = line_.has("new-macs");
    options.define = line_.has("define");
    if (line_.has("connect")) options.connect = text("connect");
    if (options.target_format == "luks") refuse("-O luks: what is restored is written plain: write -O qcow2 or -O raw");
    for (const std::string& word : line_.all("disk")) {
      const std::size_t equals = word.find('=');
      if (equals == 0 || equals == std::string::npos || equals + 1 == word.size())
        refuse("--disk " + printable(word) + ": write NAME=TARGET");
      if (!options.targets.emplace(word.substr(0, equals), word.substr(equals + 1)).second)
        refuse("--disk " + printable(word) + ": named twice");
    }
    if (options.to.empty() && options.targets.empty()) refuse("where to? write --to DIR, or --disk NAME=TARGET");
    if (options.to.empty() && (!options.new_name.empty() || options.new_uuid || options.new_macs || options.define))
      refuse("--new-name, --new-uuid, --new-macs and --define are about the domain XML, which goes to --to DIR: write that too");
  }

  void read_merge(Request& request) {
    MergeOptions& options = request.merge;
    read_transfer(options, request.io_timeout);
    request.path = options.path = line_.operands[0];
    options.verify = verify_level(false);
    options.allow_plaintext = line_.has("allow-plaintext");
    if (line_.has("min-free")) options.min_free = parse_size(named("min-free"), text("min-free"));
  }

  void read_check(Request& request) {
    request.check.path = request.path;
    request.check.shared = line_.has("force-share");
    if (line_.has("repair")) request.check.repair = text("repair") == "all" ? CheckRepair::all : CheckRepair::leaks;
    if (line_.has("repair") && request.check.shared) refuse("--repair and -U contradict each other: write one of them");
    if (line_.has("threads")) request.check.threads = parse_count(named("threads"), text("threads"), kMostThreads);
  }

  void read_delete(Request& request) {
    request.deletion.path = request.path;
    request.deletion.with_children = line_.has("with-children");
    request.deletion.force = line_.has("force");
    request.deletion.dry_run = line_.has("dry-run");
    if (line_.has("connect")) request.deletion.connect = text("connect");
  }

  void read_serve(ServeOptions& options, std::chrono::seconds io_timeout) {
    read_transfer(options, io_timeout);
    options.source = line_.operands[0];
    options.source_format = text("source-format");
    options.shared_source = line_.has("force-share");
    options.socket = text("socket");
    if (line_.has("port")) options.port = static_cast<std::uint16_t>(parse_count(named("port"), text("port"), kMostPort));
    if (line_.has("socket") == line_.has("port")) refuse("where? write --socket PATH or --port N, one of them");
  }

  void read_details(Request& request) {
    request.zone = text("zone");
    request.with_secrets = line_.has("with-secrets");
    if (request.zone.empty()) refuse("of which zone? write --zone NAME");
  }

  void read_key(Request& request) {
    const std::string& action = line_.operands[0];
    request.path = request.key.path = line_.operands[1];
    if (action == "add")
      request.key_action = KeyAction::add;
    else if (action == "remove")
      request.key_action = KeyAction::remove;
    else if (action != "list")
      refuse(printable(action) + ": write add, remove or list");
    refuse_unless(action, "add", {"new", "new-fd", "new-command", "pbkdf-iterations", "insecure-pbkdf"});
    refuse_unless(action, "remove", {"slot"});
    if (action == "list") return refuse_for_list();
    request.passphrases = opening_places();
    if (action == "add") read_key_add(request);
    if (action == "remove") read_key_remove(request);
  }

  void read_key_add(Request& request) {
    request.new_passphrase = places("new", "new-fd", "new-command");
    if (request.passphrases.empty()) refuse("add: with which passphrase is it opened? write -e FILE");
    if (request.new_passphrase.size() != 1) refuse("add: what is the new passphrase? write --new FILE, once");
    read_stretching(request.key.pbkdf_iterations, request.key.allow_weak_pbkdf);
  }

  void read_key_remove(Request& request) {
    if (line_.has("slot")) request.key.slot = parse_slot(text("slot"));
    if (!request.key.slot && request.passphrases.size() != 1)
      refuse("remove: which key? write --slot N, or -e FILE with the passphrase that is to go, once");
  }

  void read_stretching(std::uint32_t& iterations, bool& weak) {
    weak = line_.has("insecure-pbkdf");
    if (line_.has("pbkdf-iterations"))
      iterations = parse_count(named("pbkdf-iterations"), text("pbkdf-iterations"), kMostIterations);
  }

  unsigned parse_slot(const std::string& number) const {
    if (number.size() != 1 || number[0] < '0' || number[0] > '7') refuse("--slot " + printable(number) + ": write 0 to 7");
    return static_cast<unsigned>(number[0] - '0');
  }

  void refuse_unless(const std::string& action, const std::string& owner, std::initializer_list<const char*> given) const {
    for (const char* option : given)
      if (action != owner && line_.written(option))
        refuse("--" + std::string(option) + " belongs to key " + owner + ": leave it out");
  }

  void refuse_for_list() const {
    for (const char* option : {"encrypt", "encrypt-fd", "encrypt-command"})
      if (line_.written(option)) refuse("list needs no passphrase: leave --" + std::string(option) + " out");
  }

  /// In the order of the options' names, not of the command line: each is tried anyway.
  PassphrasePlaces places(const char* file, const char* descriptor, const char* command) const {
    PassphrasePlaces found;
    for (const std::string& path : line_.all(file)) found.push_back(place_of_file(path));
    for (const std::string& number : line_.all(descriptor))
      found.push_back(place_of_descriptor(parse_descriptor(descriptor, number)));
    for (const std::string& words : line_.all(command)) found.push_back(place_of_command(words));
    return found;
  }

  PassphrasePlaces opening_places() const {
    PassphrasePlaces found = places("encrypt", "encrypt-fd", "encrypt-command");
    const char* variable = std::getenv("NASBACKUP_PASSPHRASE_FILE");
    if (found.empty() && variable != nullptr && *variable != '\0') found.push_back(place_of_file(variable));
    return found;
  }

  /// What is written opens with one passphrase; `key add` gives it more.
  PassphrasePlaces encrypting_place() const {
    PassphrasePlaces found = opening_places();
    if (found.empty() && line_.passphrase) found.push_back(place_of_passphrase(line_.passphrase));
    if (found.size() > 1) refuse("more than one passphrase: write one of --encrypt, --encrypt-fd and --encrypt-command, once");
    for (const char* option : {"pbkdf-iterations", "insecure-pbkdf"})
      if (found.empty() && line_.written(option))
        refuse("--" + std::string(option) + " without a passphrase means nothing: write -e FILE too");
    return found;
  }

  int parse_descriptor(const char* option, const std::string& number) const {
    if (!number.empty() && number.find_first_not_of('0') == std::string::npos) return 0;
    return static_cast<int>(parse_count(named(option), number, kMostDescriptors));
  }

  /// The option's value; empty when it was not given.
  std::string text(std::string_view option) const {
    const std::string* value = line_.value(option);
    return value == nullptr ? std::string() : *value;
  }

  /// The option as a message begins with it: "convert: --rate", or "FILE:LINE: rate".
  std::string named(const std::string& option) const {
    const auto place = line_.places.find(option);
    if (place != line_.places.end()) return printable(place->second) + ": " + option;
    return std::string(line_.verb->name) + ": --" + option;
  }

  [[noreturn]] void refuse(const std::string& what) const { throw UsageError(std::string(line_.verb->name) + ": " + what); }

  /// The same with the place, when a file says it.
  [[noreturn]] void refuse(const std::string& option, const std::string& what) const {
    const auto place = line_.places.find(option);
    if (place != line_.places.end()) throw UsageError(printable(place->second) + ": " + what);
    refuse(what);
  }

  const CommandLine& line_;
};

}  // namespace

Request make_request(const CommandLine& line) { return Reader(line).read(); }

RateLimit make_limit(const CommandLine& line) { return Reader(line).limit(); }

}  // namespace nasbackup::tools
