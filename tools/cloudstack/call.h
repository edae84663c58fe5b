// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The command line of CloudStack's nasbackup.sh (cloudstack-contract.md, 2): each value is a word of its own, the last one
// counts. Plain data and pure functions.
#pragma once

#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace nasbackup::tools::cloudstack {

/// What the words say; nothing of it has been judged but that the flags exist.
struct Call {
  std::string operation;        ///< "backup", "delete", "stats"; anything else does nothing
  std::string vm;               ///< libvirt domain
  std::string type;             ///< mount -t
  std::string storage;          ///< what is mounted
  std::string mount_options;    ///< may be empty
  std::string path;             ///< VM/TIME below the mount
  std::string disk_paths;       ///< of a stopped VM, separated by commas; may be empty
  std::string quiesce;          ///< "true" or "false"
  std::string quiesce_timeout;  ///< seconds
  std::string mode;             ///< "full", "incremental", "legacy-full"; empty: legacy-full
  std::string bitmap_new;
  std::string bitmap_parent;
  std::string parent_paths;
  std::string bandwidth;  ///< MiB/s
  std::string passphrase_file;
  bool encrypt = false;            ///< the flag was there, whatever its value
  std::string scratch_or_secrets;  ///< -S, which two open branches of CloudStack use for different things
  std::string key_files;           ///< volume:file, separated by commas
  bool compress = false;
  bool verify = false;
  bool help = false;
};

/// What is printed on stdout, with exit status 1.
class CallError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A flag; the only list of them.
struct Flag {
  char short_name;  ///< 0: none
  std::string_view long_name;
  std::string_view value;   ///< what stands for it in the usage; empty: a switch
  std::string Call::*text;  ///< where the value goes
  bool Call::*on;           ///< set when the flag is there; may be null
};
std::span<const Flag> flags();

/// Throws CallError: an unknown flag, a flag without its value.
Call parse_call(const std::vector<std::string>& words);

/// Blank line, usage, blank line.
std::string usage_text();

/// The words between commas, in order; none for an empty text.
std::vector<std::string> comma_list(const std::string& text);

}  // namespace nasbackup::tools::cloudstack
