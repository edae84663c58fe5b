// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The engine's one exception: whose fault it is, and one line "where: what: value". nasbackup.h's implementation turns it
// into nasbackup::Error, and nothing else does. Immutable; safe everywhere.
#pragma once

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace nasbackup {

enum class FaultKind { failed, not_found, locked, wrong_key, damaged, target_full, source, timed_out, usage, interrupted };

class Fault : public std::runtime_error {
 public:
  Fault(FaultKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  FaultKind kind() const noexcept { return kind_; }

 private:
  FaultKind kind_;
};

/// "where: what: text of errno" for a call on the source.
[[noreturn]] inline void throw_source_errno(int error, const std::string& where, const std::string& what) {
  throw Fault(FaultKind::source, where + ": " + what + ": " + std::strerror(error));
}

/// The same for a call on the target: no room (also by quota) is a kind of its own.
[[noreturn]] inline void throw_target_errno(int error, const std::string& where, const std::string& what) {
  const bool full = error == ENOSPC || error == EDQUOT;
  throw Fault(full ? FaultKind::target_full : FaultKind::failed, where + ": " + what + ": " + std::strerror(error));
}

}  // namespace nasbackup
