// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The exception of this floor: the cipher library refuses what it was asked for. Its text never holds a key. Immutable.
#pragma once

#include <stdexcept>

namespace nasbackup::crypto {

/// One line, "what: value".
class CryptoError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace nasbackup::crypto
