// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_checked_image.h. What counts as outside is QEMU's rule (block/qcow2-refcount.c, qcow2_inc_refcounts_imrt).
#include "formats/qcow2_checked_image.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "formats/format_error.h"

namespace nasbackup::qcow2 {

namespace {

constexpr std::uint64_t kSectorBytes = 512;
// A cluster that is sound is counted once; thousands of snapshots may name one table of half the file.
constexpr std::uint64_t kMostCountings = 1024;

}  // namespace

void CheckedImage::read(std::uint64_t offset, std::span<std::byte> into) const {
  const std::size_t got = offset < file_size ? read_up_to(offset, into) : 0;
  std::fill(into.begin() + static_cast<std::ptrdiff_t>(got), into.end(), std::byte{0});
}

void CheckedImage::replace(std::uint64_t offset, std::span<const std::byte> old, std::span<const std::byte> now) const {
  if (offset + now.size() > file_size || std::equal(old.begin(), old.end(), now.begin())) return;
  repair->take(offset, old, now);
}

// A whole sector, because a container encrypts no less; but no more than there is of it.
void CheckedImage::replace_words(std::uint64_t sector, std::span<const std::pair<std::uint64_t, Be64>> words) const {
  std::vector<std::byte> old(std::min(kSectorBytes, file_size - std::min(sector, file_size)));
  read(sector, old);
  std::vector<std::byte> now = old;
  for (const auto& [at, word] : words)
    if (at + sizeof word <= now.size()) std::memcpy(now.data() + at, static_cast<const void*>(&word), sizeof word);
  replace(sector, old, now);
}

bool CheckedImage::is_far_outside(std::uint64_t offset, std::uint64_t bytes) const noexcept {
  // The offset alone first: a table may hold any, and sizes are bounded (below 2^40) wherever they come from.
  return offset > file_size + header.cluster_size || offset + bytes >= file_size + header.cluster_size;
}

bool CheckedImage::claim_metadata(const TableEntry& pointer, std::uint64_t offset, std::uint64_t bytes,
                                  std::uint64_t references) {
  if (bytes == 0) return false;
  if (is_far_outside(offset, bytes)) {
    findings.corrupt(pointer, "points beyond the end of the file");
    references_outside = true;
    if (offset < file_size) count_metadata(pointer, offset, file_size - offset, references);
    return false;
  }
  if (offset + bytes > file_size) findings.corrupt(pointer, "what it points at is cut off by the end of the file");
  return count_metadata(pointer, offset, bytes, references);
}

bool CheckedImage::count_metadata(const TableEntry& pointer, std::uint64_t offset, std::uint64_t bytes,
                                  std::uint64_t references) {
  const std::uint64_t first = header.cluster_of(offset), end = header.cluster_of(offset + bytes - 1) + 1;
  clusters_counted += end - first;
  if (clusters_counted > kMostCountings * map.clusters())
    throw FormatError("check: tables lie on each other in more than " + std::to_string(kMostCountings) + " layers");
  bool overlaps = false;
  for (std::uint64_t cluster = first; cluster < end; ++cluster) {
    map.add_references(cluster, references);
    overlaps |= map.mark(cluster, Mark::metadata);
  }
  if (overlaps) findings.corrupt(pointer, "what it points at overlaps other metadata");
  return !overlaps;
}

}  // namespace nasbackup::qcow2
