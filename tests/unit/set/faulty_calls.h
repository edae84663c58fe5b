// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The system calls of engine/set with a thumb on them: the linker's --wrap (meson.build) leads them through here, where
// one of them can be made to fail and all of them are written down. Used by one thread; a call is as always while nothing
// is armed.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace nasbackup::set {

struct FaultyCalls {
  /// The call of that number, from 0, fails with `error`.
  int fail_at = -1;
  int error = 0;
  /// A rename that is to fail is carried out all the same: its answer got lost on the way.
  bool rename_happens = false;
  bool only_renames = false;                            ///< fail_at counts renames alone
  std::function<void(const std::string& call)> before;  ///< sees each call, "name argument", before it is made

  int count = 0;  ///< calls so far
};

/// Null: every call goes through untouched.
void arm(FaultyCalls* calls) noexcept;

}  // namespace nasbackup::set
