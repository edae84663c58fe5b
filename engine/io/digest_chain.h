// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What is known of each piece of a disk: by its own digest file, and for what an increment left as it was by that of the set on
// which it stands, and so on (docs/formats/digests.md). Blocking; used by one thread at a time.
#pragma once

#include <memory>
#include <vector>

#include "engine/io/digest_file.h"

namespace nasbackup {

class DigestChain {
 public:
  /// What a piece should be.
  struct Expected {
    digests::PieceDigest digest;             ///< of kind `parent`: nothing in the chain knows it
    const digests::PieceDigester* digester;  ///< by which to compare it: each image has a key of its own
    std::uint64_t run_until;                 ///< up to here the pieces are known from the same file, as the same kind
  };

  /// One file.
  explicit DigestChain(std::unique_ptr<DigestFile> file);

  /// What the last one says of its parent. Throws Fault(damaged) unless disk and pieces have the same size as those above.
  void add(std::unique_ptr<DigestFile> parent);

  std::uint64_t virtual_size() const noexcept { return files_.front()->reader().virtual_size(); }
  std::uint64_t piece_size() const noexcept { return files_.front()->reader().piece_size(); }
  /// Throws Fault(damaged).
  Expected at(std::uint64_t number);

 private:
  std::vector<std::unique_ptr<DigestFile>> files_;  // the newest first; not empty
};

}  // namespace nasbackup
