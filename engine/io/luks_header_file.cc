// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See luks_header_file.h.
#include "engine/io/luks_header_file.h"

#include <unistd.h>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"

namespace nasbackup {

LuksHeaderFile::LuksHeaderFile(const std::string& path, ImageBytes::Access access, LifelineState* lifeline)
    : lifeline_(lifeline), bytes_(path, lifeline, access) {
  if (access == ImageBytes::Access::change) {
    const TargetCall mark(lifeline_);
    lock_.emplace(ImageLock::for_writing(bytes_.descriptor(), path));
  }
  header_ = find_luks_header(bytes_);
}

void LuksHeaderFile::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const TargetCall mark(lifeline_);
    const ssize_t done = ::pwrite(bytes_.descriptor(), bytes.data(), bytes.size(), static_cast<off_t>(header_.start + offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw_target_errno(errno, path(), "write");
    offset += static_cast<std::uint64_t>(done);
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void LuksHeaderFile::sync() {
  const TargetCall mark(lifeline_);
  if (::fsync(bytes_.descriptor()) != 0) throw_target_errno(errno, path(), "fsync");
}

}  // namespace nasbackup
