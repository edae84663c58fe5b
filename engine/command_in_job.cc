// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The command beside the job; see command_in_job.h.
#include "engine/command_in_job.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "engine/io/fault.h"

extern char** environ;

namespace nasbackup {

namespace {

std::vector<std::string> environment_with(const std::map<std::string, std::string>& uris) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (std::string(*entry).rfind("NASBACKUP_URI", 0) != 0) environment.emplace_back(*entry);
  std::string all;
  for (const auto& [disk, uri] : uris) {
    environment.push_back("NASBACKUP_URI_" + disk + "=" + uri);
    all += (all.empty() ? "" : " ") + uri;
  }
  environment.push_back("NASBACKUP_URIS=" + all);
  return environment;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Between fork and exec, in a process that had threads: system calls only. A group of its own lets the destructor reach what the
// command starts; the death signal reaches the command itself when our process is killed.
[[noreturn]] void become(char* const* arguments, char* const* environment, pid_t parent) noexcept {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execve(arguments[0], arguments, environment);
  ::_exit(127);
}

}  // namespace

CommandInJob::CommandInJob(const std::string& command, const std::map<std::string, std::string>& uris) {
  std::vector<std::string> words{"/bin/sh", "-c", command};
  std::vector<std::string> variables = environment_with(uris);
  const std::vector<char*> arguments = pointers_to(words);
  const std::vector<char*> environment = pointers_to(variables);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw Fault(FaultKind::failed, std::string("--exec-in-job: fork: ") + std::strerror(errno));
  if (pid_ == 0) become(arguments.data(), environment.data(), parent);
  ::setpgid(pid_, pid_);  // also from here: whoever comes first
}

CommandInJob::~CommandInJob() {
  if (has_ended()) return;
  ::kill(-pid_, SIGKILL);
  while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
}

bool CommandInJob::has_ended() {
  if (!ended_) ended_ = ::waitpid(pid_, &status_, WNOHANG) == pid_;
  return ended_;
}

std::string CommandInJob::complaint() const {
  if (WIFEXITED(status_) && WEXITSTATUS(status_) == 0) return {};
  if (WIFEXITED(status_)) return "exit status " + std::to_string(WEXITSTATUS(status_));
  return "signal " + std::to_string(WTERMSIG(status_));
}

}  // namespace nasbackup
