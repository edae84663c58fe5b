// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See digest_file.h.
#include "engine/io/digest_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "formats/format_error.h"

namespace nasbackup {

namespace {

FileDescriptor open_regular(const std::string& path, std::uint64_t& size, LifelineState* lifeline) {
  const TargetCall mark(lifeline);
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file && errno == ENOENT) throw Fault(FaultKind::damaged, path + ": is missing");
  if (!file && errno == ELOOP) throw Fault(FaultKind::damaged, path + ": a symbolic link instead of a file");
  if (!file) throw_target_errno(errno, path, "cannot open it");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_target_errno(errno, path, "cannot look at it");
  if (!S_ISREG(status.st_mode)) throw Fault(FaultKind::damaged, path + ": not a regular file");
  size = static_cast<std::uint64_t>(status.st_size);
  return file;
}

/// A broken digest file is damage, and says which it is.
template <class Work>
auto as_damage(const std::string& path, Work&& work) {
  try {
    return work();
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, path + ": " + error.what());
  }
}

}  // namespace

DigestFile::DigestFile(const std::string& path, const crypto::Secret* volume_key, LifelineState* lifeline)
    : path_(path), lifeline_(lifeline), file_(open_regular(path, file_size_, lifeline)) {
  as_damage(path_, [&] { begin(volume_key); });
}

void DigestFile::begin(const crypto::Secret* volume_key) {
  reader_.emplace([this](std::uint64_t offset, std::span<std::byte> into) { read(offset, into); }, file_size_);
  const bool keyed = reader_->kind() == digests::Kind::gmac_aes_256;
  if (keyed != (volume_key != nullptr))
    throw FormatError(keyed ? "digest file: made with a key, and its image is not encrypted"
                            : "digest file: made without a key, and its image is encrypted");
  if (keyed)
    digester_.emplace(reader_->piece_size(), digests::tag_key(volume_key->bytes(), reader_->salt()));
  else
    digester_.emplace(reader_->piece_size());
}

void DigestFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  for (std::size_t done = 0; done < into.size();) {
    const TargetCall mark(lifeline_);
    const ssize_t n = ::pread(file_.get(), into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_target_errno(errno, path_, "read at byte " + std::to_string(offset + done));
    if (n == 0) throw Fault(FaultKind::damaged, path_ + ": ends at byte " + std::to_string(offset + done));
    done += static_cast<std::size_t>(n);
  }
}

void DigestFile::check(const digests::Root& expected, const std::function<void()>& go_on) const {
  if (!crypto::same_bytes(expected, reader_->root()))
    throw Fault(FaultKind::damaged,
                path_ + ": its root is not the one that the manifest names: it belongs to another backup or was changed");
  as_damage(path_, [&] { reader_->check_root(go_on); });
}

digests::PieceDigest DigestFile::at(std::uint64_t number) {
  return as_damage(path_, [&] { return reader_->at(number); });
}

std::uint64_t DigestFile::run_until(std::uint64_t number) {
  return as_damage(path_, [&] { return reader_->run_until(number); });
}

}  // namespace nasbackup
