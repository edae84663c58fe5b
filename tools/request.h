// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the user wants, checked: the command line turned into the library's options. Plain data and a pure function.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <string>

#include "engine/nasbackup.h"
#include "tools/command_line.h"
#include "tools/passphrase_places.h"
#include "tools/priority.h"

namespace nasbackup::tools {

enum class KeyAction { add, remove, list };
enum class ProgressStyle { automatic, terminal, json, none };

/// What is done on a storage that is mounted for it.
enum class StorageTask { back_up, remove, tell_use, nothing };

/// A run on a storage of CloudStack's (nasbackup.sh).
struct StorageCall {
  StorageOptions storage;
  StorageTask task = StorageTask::nothing;
  std::string path;  ///< VM/TIME below it
};

struct Request {
  Verbs verb = 0;  ///< one bit
  std::string verb_name;
  BackupOptions backup;    ///< of backup
  ConvertOptions convert;  ///< of convert
  TuneOptions tune;        ///< of tune
  VerifyOptions verify;    ///< of verify
  RestoreOptions restore;  ///< of restore
  MergeOptions merge;      ///< of merge
  DeleteOptions deletion;  ///< of delete
  CheckOptions check;      ///< of check
  ServeOptions serve;      ///< of serve
  KeyAction key_action = KeyAction::list;
  KeyOptions key;                   ///< of key; its passphrases are read where the work is done, from these places
  PassphrasePlaces passphrases;     ///< that open, or that encrypt
  PassphrasePlaces new_passphrase;  ///< one, of key add
  PassphrasePlaces source_keys;     ///< that open what a writing verb reads
  PassphrasePlaces storage_keys;    ///< of Ceph clients, taken from the command line; not empty when it names their images
  std::string path;                 ///< of info, list, delete, key, check, verify, restore and merge
  bool json = false;
  bool verbose = false;
  ProgressStyle progress = ProgressStyle::automatic;
  std::string log_file;        ///< empty: none
  std::string config;          ///< the configuration file, whether it is there or not
  std::string zone;            ///< of details
  bool with_secrets = false;   ///< of details: the passphrase is shown
  bool limit_written = false;  ///< on the command line, so that SIGHUP does not change it
  std::string burst_written;   ///< on the command line: it stays when SIGHUP changes the rate; empty: none
  Priority priority = Priority::normal;
  std::optional<StorageCall> storage;  ///< of nasbackup.sh
  bool hangup_ends = false;            ///< SIGHUP ends the run, and does not reload the limit
  std::chrono::seconds io_timeout{60};
  std::optional<std::chrono::seconds> deadline;
  std::chrono::seconds waited{0};  ///< before the run began; part of the deadline

  std::array<const PassphrasePlaces*, 4> secrets() const noexcept {
    return {&passphrases, &new_passphrase, &source_keys, &storage_keys};
  }
  std::array<PassphrasePlaces*, 4> secrets() noexcept { return {&passphrases, &new_passphrase, &source_keys, &storage_keys}; }
  /// Also of a cluster whose key librados reads from a file of its own.
  bool has_secrets() const noexcept {
    return with_secrets || !backup.source_secrets.empty() || !passphrases.empty() || !new_passphrase.empty() ||
           !source_keys.empty() || !storage_keys.empty();
  }
  /// What the verb moves data with; of backup, convert, tune or serve.
  const TransferOptions& transfer() const noexcept {
    if (verb == kBackup) return backup;
    if (verb == kTune) return tune;
    if (verb == kVerify) return verify;
    if (verb == kRestore) return restore;
    if (verb == kServe) return serve;
    if (verb == kMerge) return merge;
    return convert;
  }
  /// True when a guest is frozen or has a job of ours on the way, so that somebody must stand by.
  bool touches_guest() const noexcept { return verb == kBackup && backup.sources.empty(); }
};

/// Throws UsageError for values that mean nothing and for options that contradict each other.
Request make_request(const CommandLine& line);

/// Only the limit. Throws as make_request() does.
RateLimit make_limit(const CommandLine& line);

}  // namespace nasbackup::tools
