// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Encrypting on the way; see luks_target.h.
#include "engine/io/luks_target.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/io/on_thread.h"
#include "engine/io/thread_cpu.h"

namespace nasbackup {

LuksTarget::LuksTarget(std::unique_ptr<BlockTarget> inner, std::shared_ptr<ImageKey> key, Placement placement,
                       asio::any_io_executor pool, StageClock& clock)
    : inner_(std::move(inner)), key_(std::move(key)), placement_(placement), pool_(std::move(pool)), clock_(clock) {}

// Zeroes outside of a container are metadata's or nobody's. Inside they must be written: a hole would decrypt to anything.
asio::awaitable<void> LuksTarget::apply(WriteBatch& batch) {
  co_await encrypt_on_pool(batch);
  if (placement_.whole_payload) {
    for (const FileRange& range : batch.zeroes()) co_await write_zeroes(range);
    batch.forget_zeroes();
  }
  batch.shift(shift_of(placement_));
  co_await inner_->apply(batch);
}

asio::awaitable<void> LuksTarget::encrypt_on_pool(WriteBatch& batch) {
  const StageClock::Visit encrypting(clock_);
  auto work = [&] { encrypt(batch); };
  co_await on_thread(pool_, work);
}

// The sector is counted from the payload's beginning in a container, and from the file's in a qcow2: there the payload is the
// file.
void LuksTarget::encrypt(const WriteBatch& batch) {
  const CpuMeter meter(cpu_ns_);
  for (const FileWrite& write : batch.writes()) {
    std::uint64_t at = write.offset.value;
    for (const FilePiece& piece : write.pieces) {
      assert(at % luks::kSectorBytes == 0 && piece.bytes.size() % luks::kSectorBytes == 0);
      if (covers(piece)) key_->cipher().encrypt(at / luks::kSectorBytes, piece.bytes);
      at += piece.bytes.size();
    }
  }
}

// Whole sectors: what the last one has behind the end of the disk is zero too.
asio::awaitable<void> LuksTarget::write_zeroes(FileRange range) {
  constexpr std::uint64_t kStep = 1u << 20;
  const std::uint64_t end = round_up(range.length, luks::kSectorBytes);
  for (std::uint64_t done = 0, length = 0; done < end; done += length) {
    length = std::min(kStep, end - done);
    WriteBatch zeroes;
    zeroes.add_owned(range.offset + done, std::vector<std::byte>(length), length, Content::guest_data);
    co_await encrypt_on_pool(zeroes);
    zeroes.shift(shift_of(placement_));
    co_await inner_->apply(zeroes);
  }
}

asio::awaitable<void> LuksTarget::write_header() {
  if (std::exchange(has_header_, true)) co_return;
  std::vector<std::byte> header;
  auto compose = [&] { header = key_->header(placement_.payload_sector); };
  co_await on_thread(key_->threads(), compose);
  std::vector<std::byte> bytes(header.size());
  std::copy(header.begin(), header.end(), bytes.data());
  WriteBatch batch;
  batch.add_table(placement_.header_offset, std::move(bytes));
  co_await inner_->apply(batch);
}

asio::awaitable<void> LuksTarget::flush() {
  co_await write_header();
  co_await inner_->flush();
}

asio::awaitable<std::uint64_t> LuksTarget::close(std::uint64_t size) {
  co_await write_header();
  co_return co_await inner_->close(size + shift_of(placement_));
}

}  // namespace nasbackup
