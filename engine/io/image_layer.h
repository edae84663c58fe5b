// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The guest's disk as one image file, with all that it stands on, shows it. One implementation for each format (raw, qcow2); a
// layer owns the layers below it (backing files). Blocking calls; safe from any number of threads at once, but for confirm().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/io/block_source.h"
#include "engine/io/fault.h"
#include "formats/kept_streams.h"

namespace nasbackup {

/// What an image is that its reader cannot read: it is not of the format that it should have, or asks for what is not known. Of
/// one that we wrote that is damage.
class UnreadableImage : public Fault {
 public:
  explicit UnreadableImage(const std::string& message) : Fault(FaultKind::source, message) {}
};

struct FilePlace {
  std::string path;
  std::uint64_t offset = 0;  ///< in the file, also of what a container holds
};

class ImageLayer {
 public:
  virtual ~ImageLayer() = default;

  /// Bytes of the guest's disk.
  std::uint64_t size() const noexcept { return size_; }
  /// Offsets and lengths of reads that no byte is read for in vain.
  std::uint64_t alignment() const noexcept { return alignment_; }
  /// What lies from `from` (within the disk) on: one run of at most `most` bytes, not empty. Whatever shares a piece of
  /// `granularity` bytes with data may be called data. Throws Fault.
  virtual Extent extent(GuestOffset from, std::uint64_t most, std::uint64_t granularity) const = 0;
  /// Fills all of `into`, which lies within the disk, or throws Fault. `keep`, unless null, gets the streams that were decoded
  /// for it, as far as it wants them.
  virtual void read(GuestOffset from, std::span<std::byte> into, KeptStreams* keep = nullptr) const = 0;
  /// After the last read: throws Fault when any of the files changed meanwhile.
  virtual void confirm() = 0;
  /// Where guest byte `at` is stored, or the stream of its cluster; nothing for what is nowhere. Throws Fault.
  virtual std::optional<FilePlace> locate(GuestOffset at) const = 0;

 protected:
  ImageLayer(std::uint64_t size, std::uint64_t alignment) noexcept : size_(size), alignment_(alignment) {}

 private:
  std::uint64_t size_;
  std::uint64_t alignment_;
};

}  // namespace nasbackup
