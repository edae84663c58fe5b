// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The exceptions of this floor: the cipher library refuses what it was asked for, or somebody asked to stop. Their texts never
// hold a key. Immutable.
#pragma once

#include <stdexcept>

namespace nasbackup::crypto {

/// One line, "what: value".
class CryptoError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What takes long was asked to stop; there is no result.
class Stopped : public std::runtime_error {
 public:
  Stopped() : std::runtime_error("stopped") {}
};

}  // namespace nasbackup::crypto
