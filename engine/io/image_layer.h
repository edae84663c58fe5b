// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The guest's disk as one image file, with all that it stands on, shows it. One implementation for each format (raw, qcow2); a
// layer owns the layers below it (backing files). Blocking calls; safe from any number of threads at once, but for confirm().
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/io/block_source.h"

namespace nasbackup {

class ImageLayer {
 public:
  virtual ~ImageLayer() = default;

  /// Bytes of the guest's disk.
  virtual std::uint64_t size() const noexcept = 0;
  /// Offsets and lengths of reads that no byte is read for in vain.
  virtual std::uint64_t alignment() const noexcept = 0;
  /// What lies from `from` (within the disk) on: one run of at most `most` bytes, not empty. Whatever shares a piece of
  /// `granularity` bytes with data may be called data. Throws Fault.
  virtual Extent extent(GuestOffset from, std::uint64_t most, std::uint64_t granularity) const = 0;
  /// Fills all of `into`, which lies within the disk, or throws Fault.
  virtual void read(GuestOffset from, std::span<std::byte> into) const = 0;
  /// After the last read: throws Fault when any of the files changed meanwhile.
  virtual void confirm() = 0;
};

}  // namespace nasbackup
