// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the encoder makes of guest data and a layout places. Plain values; the bytes belong to whoever made them.
#pragma once

#include <cstddef>
#include <span>

#include "formats/units.h"

namespace nasbackup {

/// Neighbouring clusters that hold data, as they are; or one cluster, compressed.
struct EncodedRun {
  GuestOffset at;
  std::span<std::byte> bytes;  ///< whole clusters, or one cluster's stream
  bool compressed = false;
};

}  // namespace nasbackup
