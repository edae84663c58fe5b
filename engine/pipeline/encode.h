// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What happens to guest data between reading and placing, cluster by cluster and in any order: nothing in here is shared.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "formats/units.h"

namespace nasbackup {

/// Neighbouring clusters of an item that hold data.
struct EncodedRun {
  GuestOffset at;
  std::span<const std::byte> data;
};

/// The runs of clusters that are not all zero; `bytes` begins at `at`, is whole clusters, and must outlive the runs.
std::vector<EncodedRun> encode(GuestOffset at, std::span<const std::byte> bytes, std::uint64_t cluster);

}  // namespace nasbackup
