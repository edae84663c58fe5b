// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_tables.h.
#include "engine/io/qcow2_tables.h"

#include <algorithm>

#include "engine/io/fault.h"
#include "formats/format_error.h"
#include "formats/qcow2_format.h"

namespace nasbackup {

namespace {

/// A reader in guest order needs one table at a time, several of them together two.
constexpr std::uint64_t kCacheBytes = 2u << 20;
constexpr std::size_t kLeastTables = 4;

}  // namespace

Qcow2Tables::Qcow2Tables(const ImageBytes& bytes, const qcow2::HeaderFacts& header)
    : bytes_(bytes),
      rules_(header),
      l1_(div_round_up(header.virtual_size, rules_.bytes_per_table())),
      most_(std::max<std::size_t>(kLeastTables, kCacheBytes / header.cluster_size)) {
  bytes_.read(header.l1_offset, std::as_writable_bytes(std::span(l1_)));
}

std::uint64_t Qcow2Tables::memory() const noexcept { return l1_.size() * sizeof(Be64) + most_ * rules_.cluster_size(); }

std::shared_ptr<const Qcow2Tables::Table> Qcow2Tables::covering(GuestOffset at) const {
  const std::uint64_t index = at.value / rules_.bytes_per_table();
  HostOffset offset;
  try {
    offset = rules_.table_offset(index, l1_[index]);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, bytes_.path() + ": " + error.what());
  }
  if (offset.value == 0) return nullptr;
  if (auto found = find(offset.value)) return found;
  return load(offset);
}

std::shared_ptr<const Qcow2Tables::Table> Qcow2Tables::find(std::uint64_t offset) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_offset_.find(offset);
  if (found == by_offset_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second);
  return recent_.front().second;
}

// Outside the lock: two threads may read the same table, and nobody waits for the disk of another.
std::shared_ptr<const Qcow2Tables::Table> Qcow2Tables::load(HostOffset at) const {
  auto table = std::make_shared<Table>(qcow2::l2_entries(rules_.cluster_size()));
  bytes_.read(at.value, std::as_writable_bytes(std::span(*table)));
  const std::lock_guard lock(mutex_);
  if (by_offset_.contains(at.value)) return table;
  recent_.emplace_front(at.value, table);
  by_offset_[at.value] = recent_.begin();
  if (recent_.size() > most_) {
    by_offset_.erase(recent_.back().first);
    recent_.pop_back();
  }
  return table;
}

}  // namespace nasbackup
