// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See log_file.h.
#include "tools/log_file.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <limits.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/nasbackup.h"
#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

/// Says through `answer` whether the file is open ("", or the reason why not), then copies lines until the pipe ends.
[[noreturn]] void write_log(const std::string& path, int lines, int answer) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600));
  const std::string reason = file ? "" : std::strerror(errno);
  replace_stdio(-1);  // not before: the file may be /dev/stderr
  write_all(answer, reason + "\n");
  char buffer[16384];
  for (ssize_t got = 0; file && (got = ::read(lines, buffer, sizeof buffer)) != 0;)
    if (got > 0 && !write_all(file.get(), {buffer, static_cast<std::size_t>(got)})) break;
  ::_exit(0);
}

}  // namespace

LogFile::LogFile(const std::string& path, std::chrono::seconds timeout, std::span<const PassphrasePlaces* const> others,
                 LogStyle style)
    : style_(style) {
  if (path.empty()) return;
  Pipe lines, answer;
  writer_ = fork_process();
  if (writer_ == 0) {
    lines.write_end.close();
    answer.read_end.close();
    forget_secrets(others);
    write_log(path, lines.read_end.get(), answer.write_end.get());
  }
  answer.write_end.close();
  wait_for_open(answer.read_end.get(), path, timeout);
  pipe_ = std::move(lines.write_end);
  ::fcntl(pipe_.get(), F_SETFL, O_NONBLOCK);
}

void LogFile::wait_for_open(int answer, const std::string& path, std::chrono::seconds timeout) {
  pollfd one{answer, POLLIN, 0};
  const auto end = std::chrono::steady_clock::now() + timeout;
  const auto left = [&] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
  };
  int ready = 0;
  while ((ready = ::poll(&one, 1, static_cast<int>(std::clamp<long>(left(), 0, 1'000'000)))) < 0 || (ready == 0 && left() > 0)) {
  }
  std::string reason;
  if (ready > 0) read_available(answer, reason);
  if (reason == "\n") return;
  ::kill(writer_, SIGKILL);
  ended_within(writer_, 100);
  const std::string where = "--log-file " + printable(path) + ": ";
  if (ready == 0) throw Error(Outcome::timed_out, where + "no answer, given up");
  throw Error(Outcome::failed, where + "cannot be opened: " + reason.substr(0, reason.find('\n')));
}

LogFile::~LogFile() {
  pipe_.close();
  if (writer_ > 0) ended_within(writer_, 2000);
}

void LogFile::line(std::string_view text) {
  if (!pipe_) return;
  const std::time_t now = std::time(nullptr);
  const std::string time = style_ == LogStyle::cloudstack ? fmt::format("{:%Y-%m-%d %H-%M-%S>}", fmt::localtime(now))
                                                          : fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
  const std::string whole = time + " " + printable(text) + "\n";
  // Up to PIPE_BUF bytes arrive whole or not at all.
  if (::write(pipe_.get(), whole.data(), std::min<std::size_t>(whole.size(), PIPE_BUF)) < 0 && errno == EPIPE) pipe_.close();
}

}  // namespace nasbackup::tools
