// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The LUKS header of an image file, wherever it lies: at the file's beginning (a container), or where the extension of an
// encrypted qcow2 points. To be read, or to be changed under QEMU's image locks. Blocking calls, marked on the lifeline, which
// may be null. One object is used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/image_lock.h"
#include "formats/luks_header_reader.h"

namespace nasbackup {

struct LifelineState;

/// What an image is that has no LUKS1 header.
class NotEncrypted : public Fault {
 public:
  explicit NotEncrypted(const std::string& message) : Fault(FaultKind::failed, message) {}
};

class LuksHeaderFile {
 public:
  enum class Access { read, change };

  /// Throws NotEncrypted, for qcow2's old AES too, or another Fault: not_found, damaged (a header that breaks the rules, or
  /// LUKS2), locked (in use by another program), failed.
  LuksHeaderFile(const std::string& path, Access access, LifelineState* lifeline);

  const std::string& path() const noexcept { return path_; }
  luks::Place place() const noexcept { return place_; }
  const luks::HeaderFacts& facts() const noexcept { return facts_; }

  // Offsets are counted from the header's beginning. They throw Fault with the path in front.
  void read(std::uint64_t offset, std::span<std::byte> into) const;
  void write(std::uint64_t offset, std::span<const std::byte> bytes);
  void sync();

 private:
  void find_header();
  std::size_t read_up_to(std::uint64_t file_offset, std::span<std::byte> into) const;

  std::string path_;
  LifelineState* lifeline_;
  FileDescriptor file_;
  std::optional<ImageLock> lock_;
  luks::Place place_ = luks::Place::container;
  std::uint64_t start_ = 0;  // of the header, in the file
  luks::HeaderFacts facts_;
};

}  // namespace nasbackup
