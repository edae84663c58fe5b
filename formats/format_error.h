// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The exception of this floor: bytes that break a format's rules, or a size that a format cannot hold. Immutable.
#pragma once

#include <stdexcept>

namespace nasbackup {

/// One line, "what: value, limit". Whoever knows the file's name puts it in front.
class FormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace nasbackup
