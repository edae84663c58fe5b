// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An NBD server (proto.md) over sources that can only be read: lets clients in and gives each a session. Sixteen are served at
// once, the next ones wait; those that are still in the handshake take nobody's place.
// Used on the loop's thread only, and outlives run().
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/pipeline/job_loop.h"
#include "engine/serve/listening_socket.h"
#include "engine/serve/nbd_session.h"

namespace nasbackup {

class NbdServer {
 public:
  static constexpr unsigned kMostClients = 16;
  /// What the replies of all of them take at least.
  static constexpr std::uint64_t kLeastMemory = kMostClients * (256u << 10);

  struct Export {
    std::string name;  ///< the first one also answers to the empty name
    std::unique_ptr<BlockSource> source;
  };
  struct Options {
    std::uint64_t memory = 0;  ///< bytes of replies that are held at once, at least kLeastMemory
    std::chrono::seconds handshake_timeout{10};
    std::function<void(const std::string&)> on_message;  ///< may be empty
    LifelineState* lifeline = nullptr;
  };

  /// At least one export; their names are told apart by every byte.
  NbdServer(JobLoop& job, std::vector<Export> exports, Limiter& limiter, Options options);

  /// Serves until the job is stopped, by itself when clients cannot be let in at all; then nobody is left.
  asio::awaitable<void> run(ListeningSocket& socket);

  const std::vector<nbd::ExportFacts>& exports() const noexcept { return environment_.exports; }
  std::uint64_t clients() const noexcept { return clients_; }  ///< that were let in so far

 private:
  asio::awaitable<FileDescriptor> next_client(ListeningSocket& socket);
  asio::awaitable<void> serve(FileDescriptor client, ReplyRoom::Share connection);
  void report(const std::string& failure);

  JobLoop& job_;
  Options options_;
  SessionEnvironment environment_;
  ReplyRoom connections_;  // with those that are in the handshake, or wait for a place
  TaskGroup sessions_;
  std::uint64_t clients_ = 0;
  unsigned reports_ = 0;
};

}  // namespace nasbackup
