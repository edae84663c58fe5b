// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The bytes of an image file as its format sees them: those of the file or, once a LUKS container has been entered, what it
// holds. Blocking calls, marked on the lifeline, which may be null. Once it is locked and entered, any number of threads may
// read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "crypto/aes_xts.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/image_layer.h"
#include "engine/io/image_lock.h"

namespace nasbackup {

struct LifelineState;

class ImageBytes {
 public:
  enum class Access { read, change };  ///< whether whoever has the descriptor may write

  /// Throws Fault: not_found, source (cannot be opened, or no image at all).
  ImageBytes(const std::string& path, LifelineState* lifeline, Access access = Access::read);

  const std::string& path() const noexcept { return path_; }
  std::uint64_t file_size() const noexcept { return file_size_; }  ///< apparent, or the device's
  std::uint64_t disk_size() const noexcept { return disk_size_; }  ///< bytes of the blocks in use
  /// Whole sectors of a container.
  std::uint64_t size() const noexcept;
  int descriptor() const noexcept { return file_.get(); }

  /// Of the file: device and inode, by which two paths are known to be one.
  std::pair<std::uint64_t, std::uint64_t> identity() const noexcept { return identity_; }

  /// Takes QEMU's image locks, until it is destroyed. Throws Fault(source): in use.
  void lock_for_reading();
  /// After the last read: throws Fault(source) when the file changed meanwhile.
  void confirm_unchanged();

  /// From here on offset 0 is the payload's beginning. `payload_offset` lies within the file.
  void enter_container(std::uint64_t payload_offset, std::span<const std::byte> volume_key);

  /// Where in the file an offset lies, and what stands there for these bytes. Inside a container they are whole sectors.
  std::uint64_t file_offset(std::uint64_t offset) const noexcept { return start_ + offset; }
  std::vector<std::byte> as_stored(std::uint64_t offset, std::span<const std::byte> bytes) const;

  /// Throw Fault(source); read() also Fault(damaged) when the file ends too early.
  std::size_t read_up_to(std::uint64_t offset, std::span<std::byte> into) const;
  void read(std::uint64_t offset, std::span<std::byte> into) const;
  /// Where a byte of what is shown lies in the file.
  FilePlace place_of(std::uint64_t offset) const { return {path_, start_ + offset}; }
  /// Where, from `from` on, data (SEEK_DATA) or a hole (SEEK_HOLE) begins; size() when nowhere. What cannot tell has only data.
  std::uint64_t seek(std::uint64_t from, int whence) const;

 private:
  std::uint64_t size_now() const;
  std::size_t read_file(std::uint64_t file_offset, std::span<std::byte> into) const;
  std::size_t read_payload(std::uint64_t offset, std::span<std::byte> into) const;

  std::string path_;
  LifelineState* lifeline_;
  FileDescriptor file_;
  std::optional<ImageLock> lock_;
  bool is_device_ = false;
  std::pair<std::uint64_t, std::uint64_t> identity_;
  std::uint64_t file_size_ = 0;
  std::uint64_t disk_size_ = 0;
  std::uint64_t start_ = 0;  // of the payload
  std::unique_ptr<crypto::AesXts> cipher_;
};

}  // namespace nasbackup
