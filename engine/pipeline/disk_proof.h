// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Compares a disk that is read with the digests of what it should be (docs/formats/digests.md). Safe from any number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/io/digest_chain.h"
#include "formats/image_layout.h"
#include "formats/units.h"

namespace nasbackup {

class DiskProof {
 public:
  /// Told of each piece that is not what was backed up; one call at a time, from any thread. What it throws ends the copy.
  using OnDifference = std::function<void(GuestRange)>;

  /// `origin`: whose digests they are, for messages. `unread`: what will be called zero without having been looked at, because
  /// only a sample is read; whole pieces, rising.
  DiskProof(std::unique_ptr<DigestChain> digests, std::string origin, OnDifference on_difference,
            std::vector<GuestRange> unread = {})
      : digests_(std::move(digests)),
        origin_(std::move(origin)),
        on_difference_(std::move(on_difference)),
        unread_(std::move(unread)) {}

  const std::string& origin() const noexcept { return origin_; }
  std::uint64_t virtual_size() const noexcept { return digests_->virtual_size(); }
  std::uint64_t piece_size() const noexcept { return digests_->piece_size(); }
  /// Of whole pieces that begin at `at`; what the last one has behind the disk's end is zero. Throws Fault(damaged) for digests
  /// that cannot be read.
  void compare(GuestOffset at, std::span<const std::byte> pieces);
  /// A range, of whole pieces or up to the disk's end, that reads as zero, or that an increment by itself leaves to its parent;
  /// but for what is unread.
  void compare_absent(GuestRange range, Absent as);

 private:
  DigestChain::Expected expected(std::uint64_t number);
  void compare_kind(GuestRange range, digests::PieceKind kind);
  void differs(std::uint64_t first, std::uint64_t pieces);

  std::mutex mutex_;  // guards the file, and on_difference_
  std::unique_ptr<DigestChain> digests_;
  const std::string origin_;
  OnDifference on_difference_;
  const std::vector<GuestRange> unread_;
};

}  // namespace nasbackup
