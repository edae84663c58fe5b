// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An NBD export as a source: several connections where the server allows them, block status walked while copying.
// Used on the loop's thread only.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/block_source.h"
#include "engine/io/nbd_connection.h"

namespace nasbackup {

class NbdSource final : public BlockSource {
 public:
  struct Options {
    std::string uri;
    std::string bitmap;        ///< of what changed: the context's name; all else is ExtentKind::parent. Empty: everything is read
    unsigned connections = 0;  ///< 0: kDefaultConnections; never more than the server allows
    std::chrono::seconds timeout{60};   ///< a server that neither sends nor takes anything for so long is given up
    std::optional<JobSocket> job = {};  ///< what the URI names when it is a backup job's
    LifelineState* lifeline = nullptr;
  };
  static constexpr unsigned kDefaultConnections = 4;

  /// Connects. Throws Fault.
  static asio::awaitable<std::unique_ptr<NbdSource>> open(asio::any_io_executor loop, StopSignal& stop, Options options);

  SourceTraits traits() const noexcept override;
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t granularity) override;
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override;
  asio::awaitable<void> confirm() override { co_return; }

 private:
  NbdSource(asio::any_io_executor loop, StopSignal& stop, Options options);
  asio::awaitable<void> connect();
  asio::awaitable<NbdExport> add_connection();
  const std::shared_ptr<NbdConnection>& least_busy() noexcept;
  struct Question;
  void ask_ahead(GuestOffset from);
  void ask(GuestOffset from, std::uint64_t length, bool first);
  static asio::awaitable<void> answer(std::shared_ptr<NbdConnection> connection, std::shared_ptr<Question> question);
  void adapt(const std::vector<Extent>& answer, std::uint64_t granularity) noexcept;

  asio::any_io_executor loop_;
  StopSignal& stop_;
  Options options_;
  NbdExport export_;
  std::vector<std::shared_ptr<NbdConnection>> connections_;
  std::deque<std::shared_ptr<Question>> questions_;  // asked, not yet handed out; in guest order
  std::uint64_t ask_length_;                         // how much the next block status asks about
  std::uint64_t trust_data_until_ = 0;               // finely broken up: no questions before this offset
};

}  // namespace nasbackup
