// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Decodes compressed clusters that an L2 table names: one that does not decode to a whole cluster is lost. One object is
// used by one thread at a time; several objects may share one image.
#pragma once

#include <memory>
#include <vector>

#include "formats/decompressor.h"
#include "formats/qcow2_check_header.h"
#include "formats/qcow2_checked_image.h"
#include "formats/qcow2_table_walk.h"

namespace nasbackup::qcow2 {

class CompressedCheck {
 public:
  /// Throws FormatError for a codec that was not built in. `read` and `header` must outlive it.
  CompressedCheck(const ReadUpTo& read, std::uint64_t file_size, const CheckHeader& header);

  void check(const CompressedPiece& piece, Findings& findings);

 private:
  void check_cluster(const TableEntry& entry, Findings& findings);
  std::span<const std::byte> bytes_at(std::uint64_t offset, std::uint64_t bytes);

  const ReadUpTo& read_;
  std::uint64_t file_size_;
  const CheckHeader& header_;
  std::unique_ptr<Decompressor> decompressor_;
  std::vector<Be64> words_;         // of the piece under way
  std::vector<std::byte> cluster_;  // what is decoded
  std::vector<std::byte> window_;   // of the file: compressed clusters mostly lie behind each other
  std::uint64_t window_offset_ = 0;
  std::size_t window_bytes_ = 0;
};

}  // namespace nasbackup::qcow2
