// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The file of --log-file. It may lie on the NAS that hangs, so a small process of its own opens and writes it; lines go there
// through a pipe, and who logs never waits. One object, one thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include "tools/descriptor.h"
#include "tools/passphrase_places.h"

namespace nasbackup::tools {

/// How a line begins: RFC 3339 in UTC, or as CloudStack's agent.log has it, local time (cloudstack-contract.md, 3.9).
enum class LogStyle { own, cloudstack };

class LogFile {
 public:
  /// Opens the file to append to it; an empty path: no log. Throws nasbackup::Error: cannot be opened, or does not answer in
  /// time. Before the process has threads. The writing process closes the descriptors of `others`.
  LogFile(const std::string& path, std::chrono::seconds timeout, std::span<const PassphrasePlaces* const> others,
          LogStyle style = LogStyle::own);
  /// Gives what is left two seconds to reach the file.
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  /// Adds a line with the time; dropped when the file does not keep up.
  void line(std::string_view text);
  /// In another process that does not log: the file ends when the supervisor ends, whoever is left behind.
  void forget() noexcept { pipe_.close(); }

 private:
  void wait_for_open(int answer, const std::string& path, std::chrono::seconds timeout);

  LogStyle style_;
  Descriptor pipe_;
  pid_t writer_ = -1;
};

}  // namespace nasbackup::tools
