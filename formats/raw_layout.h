// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The raw format: the guest's address is the file's address, and zeroes are holes.
#pragma once

#include "formats/image_layout.h"

namespace nasbackup {

class RawLayout final : public ImageLayout {
 public:
  /// `virtual_size` in bytes. `blank`: the file reads as zero before we begin, so zeroes need not be written.
  RawLayout(std::uint64_t virtual_size, bool blank) noexcept : virtual_size_(virtual_size), blank_(blank) {}

  void store(const EncodedRun& run, WriteBatch& out) override;
  void skip(GuestRange range, Absent as, WriteBatch& out) override;
  void write_tables(WriteBatch&) override {}
  void write_header(WriteBatch&) override {}
  std::uint64_t file_size() const noexcept override { return virtual_size_; }

 private:
  std::uint64_t virtual_size_;
  bool blank_;
};

}  // namespace nasbackup
