// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The LUKS header of an image file, to be read, or to be changed under QEMU's image locks. Blocking calls, marked on the
// lifeline, which may be null. One object is used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/io/image_bytes.h"
#include "engine/io/image_lock.h"
#include "engine/io/luks_header_place.h"

namespace nasbackup {

class LuksHeaderFile {
 public:
  /// Throws NotEncrypted, for qcow2's old AES too, or another Fault: not_found, damaged (a header that breaks the rules, or
  /// LUKS2), locked (in use by another program), source.
  LuksHeaderFile(const std::string& path, ImageBytes::Access access, LifelineState* lifeline);

  const std::string& path() const noexcept { return bytes_.path(); }
  luks::Place place() const noexcept { return header_.place; }
  const luks::HeaderFacts& facts() const noexcept { return header_.facts; }
  luks::Unlocked unlock(luks::KeyRing& ring) const { return nasbackup::unlock(bytes_, header_, ring); }

  // Offsets are counted from the header's beginning. They throw Fault with the path in front.
  void read(std::uint64_t offset, std::span<std::byte> into) const { read_luks_header(bytes_, header_, offset, into); }
  void write(std::uint64_t offset, std::span<const std::byte> bytes);
  void sync();

 private:
  LifelineState* lifeline_;
  ImageBytes bytes_;
  std::optional<ImageLock> lock_;
  LuksHeaderPlace header_;
};

}  // namespace nasbackup
