// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See disk_proof.h.
#include "engine/pipeline/disk_proof.h"

#include <algorithm>

namespace nasbackup {

DigestChain::Expected DiskProof::expected(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  return digests_->at(number);
}

void DiskProof::compare(GuestOffset at, std::span<const std::byte> pieces) {
  const std::uint64_t size = piece_size();
  for (std::uint64_t done = 0; done < pieces.size(); done += size) {
    const std::uint64_t number = (at.value + done) / size;
    const DigestChain::Expected known = expected(number);
    if (!known.digester->matches(number, pieces.subspan(done, size), known.digest)) differs(number, 1);
  }
}

void DiskProof::compare_absent(GuestRange range, Absent as) {
  const digests::PieceKind kind = as == Absent::zero ? digests::PieceKind::zero : digests::PieceKind::parent;
  GuestOffset at = range.start;
  const auto before = [](const GuestRange& unread, GuestOffset offset) { return unread.end() <= offset; };
  for (auto unread = std::lower_bound(unread_.begin(), unread_.end(), at, before);
       unread != unread_.end() && unread->start < range.end(); ++unread) {
    if (unread->start > at) compare_kind({at, unread->start - at}, kind);
    at = std::max(at, unread->end());
  }
  if (at < range.end()) compare_kind({at, range.end() - at}, kind);
}

// A run of zeroes may be a terabyte: it is asked for by runs.
void DiskProof::compare_kind(GuestRange range, digests::PieceKind kind) {
  const std::uint64_t end = div_round_up(range.end().value, piece_size());
  for (std::uint64_t number = range.start.value / piece_size(); number < end;) {
    const DigestChain::Expected known = expected(number);
    const bool alike = known.digest.kind == kind;
    if (!alike) differs(number, 1);
    number = alike ? std::min(end, known.run_until) : number + 1;
  }
}

void DiskProof::differs(std::uint64_t first, std::uint64_t pieces) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t begin = first * piece_size(), end = begin + pieces * piece_size();
  on_difference_({GuestOffset(begin), std::min(end, virtual_size()) - begin});
}

}  // namespace nasbackup
