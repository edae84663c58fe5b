// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See disk_digests.h.
#include "engine/pipeline/disk_digests.h"

#include <cassert>
#include <utility>

#include "engine/io/thread_cpu.h"

namespace nasbackup {

namespace {

digests::PieceDigester digester_for(std::uint64_t piece_size, const ImageKey* key) {
  if (key == nullptr) return digests::PieceDigester(piece_size);
  return digests::PieceDigester(piece_size, digests::tag_key(key->volume_key().bytes(), key->tag_salt()));
}

}  // namespace

DiskDigests::DiskDigests(std::uint64_t piece_size, std::uint64_t virtual_size, const ImageKey* key,
                         std::unique_ptr<BlockTarget> target)
    : digester_(digester_for(piece_size, key)),
      writer_(digester_.kind(), piece_size, virtual_size, key == nullptr ? digests::Salt{} : key->tag_salt()),
      target_(std::move(target)) {}

std::vector<digests::PieceDigest> DiskDigests::take(GuestOffset at, std::span<const std::byte> pieces) {
  const CpuMeter meter(cpu_ns_);
  return digester_.take(at.value / piece_size(), pieces);
}

void DiskDigests::add(GuestRange range, const std::vector<digests::PieceDigest>& taken, WriteBatch& out) {
  assert(range.start.value % piece_size() == 0 && taken.size() == div_round_up(range.length, piece_size()));
  (void)range;
  writer_.add(taken, out);
}

void DiskDigests::add_absent(GuestRange range, Absent as, WriteBatch& out) {
  assert(range.start.value % piece_size() == 0);
  writer_.add_absent(as, div_round_up(range.length, piece_size()), out);
}

asio::awaitable<void> DiskDigests::write(WriteBatch& batch) { co_await target_->apply(batch); }

asio::awaitable<void> DiskDigests::finish() {
  WriteBatch rest;
  const digests::Root root = writer_.finish(rest);
  co_await target_->apply(rest);
  const std::uint64_t size = co_await target_->close(writer_.file_size());
  summary_ = {digester_.kind(), piece_size(), size, root};
}

}  // namespace nasbackup
