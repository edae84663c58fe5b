// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The check of an image as a part of something larger: of its tables alone, with keys that are known already, within so much
// memory. No state; blocking. Throws Fault, damaged for what breaks the format's rules so that nothing more can be told of it.
#pragma once

#include <cstdint>
#include <string>

#include "engine/nasbackup.h"
#include "formats/luks_key_ring.h"
#include "formats/qcow2_cluster_map.h"

namespace nasbackup {

struct ImageCheckBounds {
  bool metadata_only = false;                            ///< compressed clusters are not decoded
  std::uint64_t memory = qcow2::ClusterMap::kMostBytes;  ///< bytes, for what is known of the clusters
};

struct ImageCheck {
  CheckReport report;
  std::uint64_t start = 0;  ///< in the file, from where the report counts: of a container's payload
};

/// The verdict is no_check for what is no qcow2, and not_completed when `memory` is too little. The ring opens a LUKS container.
ImageCheck check_tables(const std::string& path, luks::KeyRing& ring, std::uint64_t memory, const JobControl& control);

}  // namespace nasbackup
