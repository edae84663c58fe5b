// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See disk_proof.h.
#include "engine/pipeline/disk_proof.h"

#include <algorithm>

namespace nasbackup {

void DiskProof::compare(GuestOffset at, std::span<const std::byte> pieces) {
  const std::uint64_t size = piece_size();
  for (std::uint64_t done = 0; done < pieces.size(); done += size) {
    const std::uint64_t number = (at.value + done) / size;
    digests::PieceDigest expected;
    {
      const std::lock_guard lock(mutex_);
      expected = digests_->at(number);
    }
    if (!digests_->digester().matches(number, pieces.subspan(done, size), expected)) differs(number, 1);
  }
}

void DiskProof::compare_zero(GuestRange range) {
  GuestOffset at = range.start;
  const auto before = [](const GuestRange& unread, GuestOffset offset) { return unread.end() <= offset; };
  for (auto unread = std::lower_bound(unread_.begin(), unread_.end(), at, before);
       unread != unread_.end() && unread->start < range.end(); ++unread) {
    if (unread->start > at) compare_zeroes({at, unread->start - at});
    at = std::max(at, unread->end());
  }
  if (at < range.end()) compare_zeroes({at, range.end() - at});
}

// A run of zeroes may be a terabyte: it is asked for by runs.
void DiskProof::compare_zeroes(GuestRange range) {
  const std::uint64_t end = div_round_up(range.end().value, piece_size());
  for (std::uint64_t number = range.start.value / piece_size(); number < end;) {
    std::uint64_t zero_until = 0;
    {
      const std::lock_guard lock(mutex_);
      zero_until = std::min(end, digests_->zero_until(number));
    }
    if (zero_until == number) differs(zero_until++, 1);
    number = zero_until;
  }
}

void DiskProof::differs(std::uint64_t first, std::uint64_t pieces) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t begin = first * piece_size(), end = begin + pieces * piece_size();
  on_difference_({GuestOffset(begin), std::min(end, digests_->reader().virtual_size()) - begin});
}

}  // namespace nasbackup
