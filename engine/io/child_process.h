// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A program that we start: with nothing on its stdin, in a process group of its own, and killed with all that it started when it
// is not wanted any more or this process dies. Thread-safety: one object, one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace nasbackup {

struct ChildOptions {
  std::vector<std::string> arguments;    ///< the first is the program, looked for in $PATH
  std::vector<std::string> environment;  ///< "NAME=value"; empty: ours
  int output = 2;                        ///< descriptors that become its stdout and stderr
  int errors = 2;
};

class ChildProcess {
 public:
  /// `name` stands before what went wrong. Throws Fault when it cannot be started.
  ChildProcess(const ChildOptions& options, const std::string& name);
  /// Kills it when it still runs, and waits for its end.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// True once it has ended.
  bool has_ended();
  /// How it ended: "exit status 3", "signal 9"; empty: well. After has_ended().
  std::string complaint() const;
  /// Kills it and forgets it: one that hangs in the kernel is not waited for.
  void give_up() noexcept;

 private:
  pid_t pid_ = -1;
  bool ended_ = false;
  int status_ = 0;
};

}  // namespace nasbackup
