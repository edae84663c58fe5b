// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The user's command that runs beside the copying while the backup job is open (--exec-in-job): started with the exports' URIs in
// its environment, waited for, and killed with all that it started when the job fails or this process dies.
// Thread-safety: one object, one thread.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>

namespace nasbackup {

class CommandInJob {
 public:
  /// `uris`: disk name to NBD URI; each becomes NASBACKUP_URI_<disk>, all of them NASBACKUP_URIS. `command` is for /bin/sh. Its
  /// stdin is empty, its stdout is our stderr. Throws Fault when it cannot be started.
  CommandInJob(const std::string& command, const std::map<std::string, std::string>& uris);
  /// Kills it when it still runs.
  ~CommandInJob();
  CommandInJob(const CommandInJob&) = delete;
  CommandInJob& operator=(const CommandInJob&) = delete;

  /// True once it has ended.
  bool has_ended();
  /// How it ended: "exit status 3", "signal 9"; empty: well. After has_ended().
  std::string complaint() const;

 private:
  pid_t pid_ = -1;
  bool ended_ = false;
  int status_ = 0;
};

}  // namespace nasbackup
