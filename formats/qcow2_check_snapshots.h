// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The L1 tables that a qcow2 has: the active one, and one for each entry of its snapshot table. Section "Snapshots". No state.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/qcow2_checked_image.h"

namespace nasbackup::qcow2 {

struct L1Table {
  TableEntry pointer;  ///< what names it: the header, or an entry of the snapshot table
  std::uint64_t offset = 0;
  std::uint32_t entries = 0;
  bool active = false;
};

/// The active L1 table first. Counts the snapshot table's clusters and reports what is wrong with it; the L1 tables themselves
/// are neither counted nor read.
std::vector<L1Table> find_l1_tables(CheckedImage& image);

}  // namespace nasbackup::qcow2
