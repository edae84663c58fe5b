// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An NBD export that is written; see nbd_target.h.
#include "engine/io/nbd_target.h"

#include <algorithm>

#include "engine/io/fault.h"

namespace nasbackup {

asio::awaitable<std::unique_ptr<NbdTarget>> NbdTarget::open(asio::any_io_executor loop, StopSignal& stop, std::string uri,
                                                            std::chrono::seconds timeout, std::uint64_t size) {
  const std::string name = location_for_people(uri);
  const NbdConnection::Options options{std::move(uri), "", FaultKind::failed, timeout};
  auto connection = std::make_shared<NbdConnection>(loop, stop, options);
  const NbdExport described = co_await connection->open();
  if (described.read_only) throw Fault(FaultKind::failed, name + ": the export is read-only");
  if (described.size < size)
    throw Fault(FaultKind::target_full,
                name + ": export of " + std::to_string(described.size) + " bytes, " + std::to_string(size) + " are needed");
  if (size % described.minimum_block != 0)
    throw Fault(FaultKind::failed, name + ": minimum block size: " + std::to_string(described.minimum_block) +
                                       ", does not divide the " + std::to_string(size) + " bytes to write");
  co_return std::unique_ptr<NbdTarget>(new NbdTarget(std::move(connection), described));
}

asio::awaitable<void> NbdTarget::apply(WriteBatch& batch) {
  for (const FileRange& range : batch.zeroes()) co_await zero(range);
  for (const FileWrite& run : batch.writes()) {
    std::uint64_t at = run.offset.value;
    for (const auto& piece : run.pieces) {
      co_await write(at, piece.bytes);
      at += piece.bytes.size();
    }
  }
}

asio::awaitable<void> NbdTarget::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min<std::uint64_t>(bytes.size(), export_.maximum_block));
    co_await connection_->write(offset, part);
    offset += part.size();
    bytes = bytes.subspan(part.size());
  }
}

asio::awaitable<void> NbdTarget::zero(FileRange range) {
  constexpr std::uint64_t kLongest = 128u << 20;  // a server that has to write them answers in time
  static const std::vector<std::byte> zeroes(1u << 20);
  const std::uint64_t longest = export_.can_zero ? kLongest : zeroes.size();
  for (std::uint64_t done = 0; done < range.length;) {
    const auto length = std::min(longest, range.length - done);
    if (export_.can_zero)
      co_await connection_->zero(range.offset.value + done, length);
    else
      co_await write(range.offset.value + done, std::span(zeroes).first(length));
    done += length;
  }
}

asio::awaitable<void> NbdTarget::flush() {
  if (export_.can_flush) co_await connection_->flush();
}

asio::awaitable<std::uint64_t> NbdTarget::close(std::uint64_t size) {
  co_await flush();
  co_return size;
}

}  // namespace nasbackup
