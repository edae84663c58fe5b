// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An NBD export that is written (raw images only: an export does not grow). One connection, because only flushes on the same
// connection are sure to cover its writes.
#pragma once

#include <memory>
#include <string>

#include "engine/io/block_target.h"
#include "engine/io/nbd_connection.h"

namespace nasbackup {

class NbdTarget final : public BlockTarget {
 public:
  /// Connects; the export must be writable and hold `size` bytes. Throws Fault.
  static asio::awaitable<std::unique_ptr<NbdTarget>> open(asio::any_io_executor loop, StopSignal& stop, std::string uri,
                                                          std::chrono::seconds timeout, std::uint64_t size);

  asio::awaitable<void> apply(WriteBatch& batch) override;
  asio::awaitable<void> flush() override;
  asio::awaitable<std::uint64_t> close(std::uint64_t size) override;

 private:
  NbdTarget(std::shared_ptr<NbdConnection> connection, NbdExport described)
      : connection_(std::move(connection)), export_(described) {}
  asio::awaitable<void> zero(FileRange range);
  asio::awaitable<void> write(std::uint64_t offset, std::span<const std::byte> bytes);

  std::shared_ptr<NbdConnection> connection_;
  NbdExport export_;
};

}  // namespace nasbackup
