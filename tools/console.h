// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the supervisor says on stderr: whole lines, and on a terminal one line that changes. It never waits for a caller that does
// not read: a run that holds a guest must not hang on its own messages. What does not fit into the backlog is dropped and
// counted. Thread-safety: one thread.
#pragma once

#include <string>
#include <string_view>

namespace nasbackup::tools {

class Console {
 public:
  /// `as_json`: each line is an object {"message": …}.
  Console(int fd, bool as_json) : fd_(fd), as_json_(as_json) {}

  /// A line, without its end. It is made printable.
  void line(std::string_view text);
  /// A line that is complete as it is.
  void raw_line(std::string_view text);
  /// Replaces the line that changes; skipped when the terminal does not keep up.
  void status(std::string_view text);
  void clear_status();

  bool has_backlog() const noexcept { return !backlog_.empty(); }
  /// Writes what can be written at once.
  void pump();
  /// Writes everything that is left, waiting for the reader. For the end, when nothing is held any more.
  void finish();

 private:
  int fd_;
  bool as_json_;
  bool status_shown_ = false;
  std::size_t dropped_ = 0;
  std::string backlog_;
};

}  // namespace nasbackup::tools
