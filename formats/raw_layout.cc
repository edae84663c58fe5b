// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The raw format; see raw_layout.h.
#include "formats/raw_layout.h"

#include <algorithm>

namespace nasbackup {

void RawLayout::store(GuestOffset at, std::span<const std::byte> data, WriteBatch& out) {
  // The last cluster reaches past the end of the disk; a raw file must not.
  const auto length = std::min<std::uint64_t>(data.size(), virtual_size_ - at.value);
  out.add(HostOffset(at.value), data.first(length));
}

void RawLayout::skip(GuestRange zeroes, WriteBatch& out) {
  if (blank_) return;
  const auto end = std::min(zeroes.end().value, virtual_size_);
  if (end > zeroes.start.value) out.add_zeroes(HostOffset(zeroes.start.value), end - zeroes.start.value);
}

}  // namespace nasbackup
