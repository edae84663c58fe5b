// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See passphrase_command.h.
#include "engine/passphrase_command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/io/fault.h"

namespace nasbackup {

namespace {

constexpr useconds_t kTick = 10'000;  // microseconds between two looks at a command that has closed its output

// Between fork and exec, in a process that may have threads: system calls only. A group of its own lets the destructor reach what
// the command starts; the death signal reaches the command itself when our process is killed.
[[noreturn]] void become(const char* command, int output, pid_t parent) noexcept {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execl("/bin/sh", "/bin/sh", "-c", command, static_cast<char*>(nullptr));
  ::_exit(127);
}

}  // namespace

PassphraseCommand::PassphraseCommand(const std::string& command) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Fault(FaultKind::failed, std::string("passphrase: pipe: ") + std::strerror(errno));
  output_ = FileDescriptor(ends[0]);
  const FileDescriptor input(ends[1]);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw Fault(FaultKind::failed, std::string("passphrase: fork: ") + std::strerror(errno));
  if (pid_ == 0) become(command.c_str(), input.get(), parent);
  ::setpgid(pid_, pid_);  // also from here: whoever comes first
}

PassphraseCommand::~PassphraseCommand() {
  if (pid_ < 0) return;
  ::kill(-pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string PassphraseCommand::wait(const std::stop_token& stop) {
  int status = 0;
  while (::waitpid(pid_, &status, WNOHANG) == 0) {
    if (stop.stop_requested()) throw Fault(FaultKind::interrupted, "passphrase: the command: stopped while waiting for it");
    ::usleep(kTick);
  }
  pid_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status)) return "exit status " + std::to_string(WEXITSTATUS(status));
  return "signal " + std::to_string(WTERMSIG(status));
}

}  // namespace nasbackup
