// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A chain of increments into one full set.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

/// An increment and all that it stands on become one full set beside them. Its `source_keys` open them; without any `encrypt`
/// does.
struct MergeOptions : TransferOptions {
  MergeOptions() { cluster_size = 0; }

  std::string path;                     ///< of an increment: DIR/VM/TIME, or DIR/VM for its newest set
  bool allow_plaintext = false;         ///< what is encrypted may be written unencrypted
  std::uint64_t min_free = 1ull << 30;  ///< room that must be left on the target
};

struct MergeReport : JobReport {
  std::vector<std::string> merged_from;  ///< names of the sets, the full one first
};

/// A cluster size of 0, and an empty compression, are those of the set. What it holds is compared with the digests of the whole
/// chain; the sets that were there stay as they are. Throws Error: damaged when what is read is not what was backed up; nothing
/// is published then.
MergeReport merge(const MergeOptions& options, const JobControl& control);

}  // namespace nasbackup
