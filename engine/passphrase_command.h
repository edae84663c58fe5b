// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The user's command that prints a passphrase (--encrypt-command): started, read from, waited for, and killed with all that it
// started when it is not wanted any more or this process dies. Thread-safety: one object, one thread.
#pragma once

#include <sys/types.h>

#include <stop_token>
#include <string>

#include "engine/io/file_descriptor.h"

namespace nasbackup {

class PassphraseCommand {
 public:
  /// `command` is for /bin/sh. Its stdin is empty, its stderr ours. Throws Fault when it cannot be started.
  explicit PassphraseCommand(const std::string& command);
  /// Kills it when it still runs.
  ~PassphraseCommand();
  PassphraseCommand(const PassphraseCommand&) = delete;
  PassphraseCommand& operator=(const PassphraseCommand&) = delete;

  /// What it writes to its stdout.
  int output() const noexcept { return output_.get(); }
  /// Waits for its end, after its output's. How it ended, "exit status 3"; empty: well.
  std::string wait(const std::stop_token& stop);

 private:
  FileDescriptor output_;
  pid_t pid_ = -1;
};

}  // namespace nasbackup
