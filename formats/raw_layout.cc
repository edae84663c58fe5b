// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The raw format; see raw_layout.h.
#include "formats/raw_layout.h"

#include <algorithm>
#include <cassert>

namespace nasbackup {

void RawLayout::store(const EncodedRun& run, WriteBatch& out) {
  assert(!run.compressed);
  // The last cluster reaches past the end of the disk; a raw file must not.
  const auto length = std::min<std::uint64_t>(run.bytes.size(), virtual_size_ - run.at.value);
  out.add(HostOffset(run.at.value), run.bytes.first(length), Content::guest_data);
}

void RawLayout::skip(GuestRange range, Absent as, WriteBatch& out) {
  assert(as == Absent::zero);
  (void)as;
  if (blank_) return;
  const auto end = std::min(range.end().value, virtual_size_);
  if (end > range.start.value) out.add_zeroes(HostOffset(range.start.value), end - range.start.value);
}

}  // namespace nasbackup
