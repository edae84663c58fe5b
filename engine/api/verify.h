// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Reads back what was backed up.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

/// Reads back what was backed up. Its `source_keys` open it; what is about writing is not looked at.
struct VerifyOptions : TransferOptions {
  std::string path;           ///< a set, DIR/VM for its newest, or an image
  std::string source_format;  ///< of an image: "raw", "qcow2", "luks", or empty to probe; of a set: that of `against`
  /// What its content must be, besides what the digests say: a path or NBD URI, for a set of several disks NAME=SRC, once for
  /// each.
  std::vector<std::string> against;
  std::vector<std::shared_ptr<const Passphrase>> against_keys;  ///< each is tried, for those that are encrypted
  double sample = 1;  ///< the part of the data that is read, chosen at random; all else is looked at wholly
};

/// One thing that is wrong.
struct Damage {
  std::string disk;  ///< its name; empty: it is about the set
  std::string file;
  std::optional<std::uint64_t> guest_offset;  ///< of the first byte of the disk that is not what it was
  std::optional<std::uint64_t> guest_length;
  std::optional<std::uint64_t> file_offset;  ///< where that is stored
  std::string what;                          ///< one line
};

/// The same in one line: disk, range of the guest's bytes, file and offset, as far as they are known.
std::string line_of(const Damage& damage);

/// How a file was read.
struct FileRead {
  std::string path;
  std::string how;  ///< "dropped": it was let go from this host's memory before; "cached": it could not be, or nobody can tell
};

struct VerifyReport {
  std::string path;
  bool proved = false;         ///< the content was compared with digests, or with another source, all of it
  double sample = 1;           ///< the part of the data that was to be read
  std::vector<Damage> damage;  ///< empty: none was found
  std::vector<FileRead> files;
  std::vector<std::string> warnings;  ///< what is no damage: leaked clusters, tables for which there is not enough memory
  std::uint64_t virtual_size = 0;
  std::uint64_t data_bytes = 0;  ///< read as data
  double seconds = 0;
};

/// Reads everything back and tells all damage, however much there is; throws Error for what keeps it from looking: wrong_key,
/// not_found, damaged when the manifest itself is not what was written.
VerifyReport verify(const VerifyOptions& options, const JobControl& control);

}  // namespace nasbackup
