// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// From bytes to runs of clusters; see encode.h.
#include "engine/pipeline/encode.h"

#include "formats/is_zero.h"

namespace nasbackup {

std::vector<EncodedRun> encode(GuestOffset at, std::span<const std::byte> bytes, std::uint64_t cluster) {
  std::vector<EncodedRun> runs;
  bool extends_last = false;
  for (std::uint64_t offset = 0; offset < bytes.size(); offset += cluster) {
    const auto piece = bytes.subspan(offset, cluster);
    const bool stored = !is_zero(piece);
    if (stored && extends_last)
      runs.back().data = {runs.back().data.data(), runs.back().data.size() + cluster};
    else if (stored)
      runs.push_back({at + offset, piece});
    extends_last = stored;
  }
  return runs;
}

}  // namespace nasbackup
