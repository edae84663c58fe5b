// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See child_process.h.
#include "engine/io/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/io/fault.h"

namespace nasbackup {

namespace {

std::vector<char*> pointers_to(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words)
    pointers.push_back(const_cast<char*>(word.c_str()));  // exec's signature; it changes nothing
  pointers.push_back(nullptr);
  return pointers;
}

// Between fork and exec, in a process that may have threads: system calls only. A group of its own lets the destructor reach what
// the program starts; the death signal reaches the program itself when our process is killed.
[[noreturn]] void become(char* const* arguments, char* const* environment, const ChildOptions& options, pid_t parent) noexcept {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(options.output, STDOUT_FILENO);
  ::dup2(options.errors, STDERR_FILENO);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execvpe(arguments[0], arguments, environment);
  ::_exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const ChildOptions& options, const std::string& name) {
  const std::vector<char*> arguments = pointers_to(options.arguments);
  const std::vector<char*> environment = pointers_to(options.environment);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw Fault(FaultKind::failed, name + ": fork: " + std::strerror(errno));
  if (pid_ == 0) become(arguments.data(), options.environment.empty() ? environ : environment.data(), options, parent);
  ::setpgid(pid_, pid_);  // also from here: whoever comes first
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0 || has_ended()) return;
  ::kill(-pid_, SIGKILL);
  while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
}

bool ChildProcess::has_ended() {
  if (!ended_) ended_ = ::waitpid(pid_, &status_, WNOHANG) == pid_;
  return ended_;
}

std::string ChildProcess::complaint() const {
  if (WIFEXITED(status_) && WEXITSTATUS(status_) == 0) return {};
  if (WIFEXITED(status_)) return "exit status " + std::to_string(WEXITSTATUS(status_));
  return "signal " + std::to_string(WTERMSIG(status_));
}

void ChildProcess::give_up() noexcept {
  if (pid_ > 0 && !has_ended()) ::kill(-pid_, SIGKILL);
  pid_ = -1;
}

}  // namespace nasbackup
