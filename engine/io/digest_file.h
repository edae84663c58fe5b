// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A disk's digest file on the target, opened to compare what is read with what once was (docs/formats/digests.md). Blocking
// calls, marked on the lifeline, which may be null. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "crypto/secret.h"
#include "engine/io/file_descriptor.h"
#include "formats/digest_reader.h"

namespace nasbackup {

struct LifelineState;

class DigestFile {
 public:
  /// `volume_key`: of the image, when its digests are made with a key; else null. Throws Fault: damaged (missing, no regular
  /// file, not a digest file, of another kind than the key says), failed.
  DigestFile(const std::string& path, const crypto::Secret* volume_key, LifelineState* lifeline);
  // What reads holds this object's address.
  DigestFile(const DigestFile&) = delete;
  DigestFile& operator=(const DigestFile&) = delete;

  const std::string& path() const noexcept { return path_; }
  std::uint64_t file_size() const noexcept { return file_size_; }
  const digests::Reader& reader() const noexcept { return *reader_; }

  /// Reads all of it. Throws Fault(damaged) unless its root is `expected` and that of what is in it.
  void check(const digests::Root& expected, const std::function<void()>& go_on = {}) const;
  /// What is known of a piece. Throws Fault(damaged).
  digests::PieceDigest at(std::uint64_t number);
  /// See digests::Reader. Throws Fault(damaged).
  std::uint64_t run_until(std::uint64_t number);
  /// Is that piece, whole and padded with zeroes, what was backed up? Throws Fault(damaged) when the digest file is broken there.
  bool matches(std::uint64_t number, std::span<const std::byte> piece) { return digester_->matches(number, piece, at(number)); }
  /// Takes and compares digests without the file: from any thread.
  const digests::PieceDigester& digester() const noexcept { return *digester_; }

 private:
  void read(std::uint64_t offset, std::span<std::byte> into) const;
  void begin(const crypto::Secret* volume_key);

  std::string path_;
  LifelineState* lifeline_;
  std::uint64_t file_size_ = 0;  // set by what opens the file, so it comes first
  FileDescriptor file_;
  std::optional<digests::Reader> reader_;
  std::optional<digests::PieceDigester> digester_;
};

}  // namespace nasbackup
