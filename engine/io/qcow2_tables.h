// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The L1 table of a qcow2, and those of its L2 tables that were asked for last. Safe from any number of threads at once.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/io/image_bytes.h"
#include "formats/qcow2_mapping.h"

namespace nasbackup {

class Qcow2Tables {
 public:
  using Table = std::vector<Be64>;

  /// Reads L1. `bytes` outlives it. Throws Fault.
  Qcow2Tables(const ImageBytes& bytes, const qcow2::HeaderFacts& header);

  const qcow2::EntryRules& rules() const noexcept { return rules_; }
  /// The L2 table that maps guest byte `at`, null when it has none. Throws Fault (source, damaged).
  std::shared_ptr<const Table> covering(GuestOffset at) const;
  /// Bytes that all of it takes at most.
  std::uint64_t memory() const noexcept;

 private:
  using Recent = std::list<std::pair<std::uint64_t, std::shared_ptr<const Table>>>;

  std::shared_ptr<const Table> find(std::uint64_t offset) const;
  std::shared_ptr<const Table> load(HostOffset at) const;

  const ImageBytes& bytes_;
  qcow2::EntryRules rules_;
  Table l1_;
  std::size_t most_;
  mutable std::mutex mutex_;  // guards the two below
  mutable Recent recent_;     // by file offset, the newest first
  mutable std::unordered_map<std::uint64_t, Recent::iterator> by_offset_;
};

}  // namespace nasbackup
