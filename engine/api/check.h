// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Whether the metadata of an image is sound.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

/// What a check changes. All of it or nothing stands in the image afterwards, also when it is killed (docs/formats/check.md).
enum class CheckRepair {
  nothing,
  leaks,  ///< clusters that nobody uses become free
  all,    ///< also refcounts that are too small, COPIED flags, and the dirty and the corrupt bit of an image that is sound then
};

struct CheckOptions {
  std::string path;
  std::vector<std::shared_ptr<const Passphrase>> passphrases;  ///< each is tried; only a LUKS container needs one
  bool shared = false;                                         ///< -U: do not look at image locks
  unsigned threads = 0;                                        ///< that decode; 0: one for each CPU
  CheckRepair repair = CheckRepair::nothing;                   ///< under the locks of a writer
};

/// What a check comes to. The numbers are those of `qemu-img check`.
enum class CheckVerdict : int { clean = 0, not_completed = 1, corrupt = 2, leaks = 3, no_check = 63 };

struct CheckFinding {
  std::string kind;               ///< "corruption", "leak", "check-error" or "note"
  std::string table;              ///< where the value stands: "L2 table", "refcount block" …
  std::uint64_t index = 0;        ///< of the entry in its table
  std::uint64_t value = 0;        ///< as it stands there
  std::uint64_t file_offset = 0;  ///< of the value; in a LUKS container counted from the payload's beginning
  std::string text;               ///< all of it in one line
};

struct CheckReport {
  CheckVerdict verdict = CheckVerdict::clean;
  std::string path;
  std::string format;  ///< "qcow2" or "raw", which has no check; of what a LUKS container holds
  std::uint64_t check_errors = 0;
  std::uint64_t corruptions = 0;
  std::uint64_t leaks = 0;
  std::uint64_t corruptions_fixed = 0;  ///< of a repair; the other numbers say what is left
  std::uint64_t leaks_fixed = 0;
  std::uint64_t image_end_offset = 0;
  std::uint64_t total_clusters = 0;  ///< this and what follows: of the guest's disk
  std::uint64_t allocated_clusters = 0;
  std::uint64_t fragmented_clusters = 0;
  std::uint64_t compressed_clusters = 0;
  std::vector<CheckFinding> findings;  ///< of each kind the first thousand
};

/// Looks whether the metadata of an image is sound and its compressed clusters decode. What is wrong with it is in the report;
/// Error is thrown for an image that cannot be checked at all: damaged when its header breaks the format's rules.
CheckReport check_image(const CheckOptions& options, const JobControl& control = {});

}  // namespace nasbackup
