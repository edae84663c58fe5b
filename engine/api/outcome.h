// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a run comes to, and the one exception that says so.
#pragma once

#include <stdexcept>
#include <string>

namespace nasbackup {

/// What a run comes to. The numbers are the command's exit statuses (see `nasbackup --help`).
enum class Outcome : int {
  done = 0,
  failed = 1,
  done_with_warnings = 3,
  not_found = 10,
  locked = 11,
  wrong_key = 12,
  damaged = 13,
  target_full = 14,
  source_problem = 15,
  timed_out = 16,
  usage = 64,
};

/// The one exception that leaves the library: an outcome and one line "where: what: value".
class Error : public std::runtime_error {
 public:
  Error(Outcome outcome, const std::string& message) : std::runtime_error(message), outcome_(outcome) {}
  Outcome outcome() const noexcept { return outcome_; }

 private:
  Outcome outcome_;
};

}  // namespace nasbackup
