// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The bytes of an image file as its format sees them: those of the file or, once a LUKS container has been entered, what it
// holds. For looking into an image here and there; the pipeline reads elsewhere. Blocking calls, marked on the lifeline, which
// may be null. Several threads may read at once; the rest is for one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "crypto/aes_xts.h"
#include "engine/io/file_descriptor.h"

namespace nasbackup {

struct LifelineState;

class ImageBytes {
 public:
  /// Throws Fault: not_found, source (cannot be read, or no image at all).
  ImageBytes(const std::string& path, LifelineState* lifeline);

  const std::string& path() const noexcept { return path_; }
  std::uint64_t file_size() const noexcept { return file_size_; }  ///< apparent, or the device's
  std::uint64_t disk_size() const noexcept { return disk_size_; }  ///< bytes of the blocks in use
  std::uint64_t size() const noexcept { return file_size_ - start_; }
  int descriptor() const noexcept { return file_.get(); }  ///< for its locks; stays ours

  /// From here on offset 0 is the payload's beginning. `payload_offset` lies within the file.
  void enter_container(std::uint64_t payload_offset, std::span<const std::byte> volume_key);

  /// Where in the file an offset lies, and what stands there for these bytes. Inside a container they are whole sectors.
  std::uint64_t file_offset(std::uint64_t offset) const noexcept { return start_ + offset; }
  std::vector<std::byte> as_stored(std::uint64_t offset, std::span<const std::byte> bytes) const;

  /// Throw Fault(source); read() also Fault(damaged) when the file ends too early.
  std::size_t read_up_to(std::uint64_t offset, std::span<std::byte> into) const;
  void read(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  std::size_t read_file(std::uint64_t file_offset, std::span<std::byte> into) const;
  std::size_t read_payload(std::uint64_t offset, std::span<std::byte> into) const;

  std::string path_;
  LifelineState* lifeline_;
  FileDescriptor file_;
  std::uint64_t file_size_ = 0;
  std::uint64_t disk_size_ = 0;
  std::uint64_t start_ = 0;  // of the payload
  std::unique_ptr<crypto::AesXts> cipher_;
};

}  // namespace nasbackup
