// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What passes through the pipeline: a run of neighbouring guest clusters that are all data or all zero. Plain values.
#pragma once

#include <cstdint>

#include "engine/io/block_source.h"

namespace nasbackup {

struct WorkItem {
  std::uint64_t sequence = 0;  ///< place in guest order, counted from 0 without gaps
  GuestRange range;            ///< begins at a cluster; ends at one, or at the end of the disk
  ExtentKind kind = ExtentKind::data;
};

}  // namespace nasbackup
