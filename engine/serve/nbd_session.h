// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One client from its first byte to its last: the handshake within a time, then requests, of which as many are answered at once
// as the session has room for. What it holds for its client is its own share of the memory, so that one who does not fetch his
// replies keeps nobody waiting but himself.
// Used on the loop's thread only. Nothing that a client does, and no source that fails, ends more than its session.
#pragma once

#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <boost/asio/steady_timer.hpp>

#include "engine/io/stop_signal.h"
#include "engine/pipeline/task_group.h"
#include "engine/serve/client_socket.h"
#include "engine/serve/reply_room.h"
#include "engine/serve/served_disk.h"
#include "formats/nbd_negotiation.h"
#include "formats/nbd_requests.h"

namespace nasbackup {

/// What all sessions of a server share; outlives them.
struct SessionEnvironment {
  asio::any_io_executor loop;
  StopSignal& stop;
  std::vector<nbd::ExportFacts> exports;
  std::vector<ServedDisk> disks;  ///< in the same order
  ReplyRoom places;               ///< of clients that are past the handshake
  std::uint64_t room = 0;         ///< bytes of replies that one session holds
  std::chrono::seconds handshake_timeout{10};
  std::function<void(const std::string&)> on_failed_read;
};

class NbdSession : public std::enable_shared_from_this<NbdSession> {
 public:
  NbdSession(SessionEnvironment& environment, FileDescriptor client);

  /// Serves the client until it leaves, misbehaves or the server stops. Throws nothing but std::bad_alloc.
  asio::awaitable<void> run();

 private:
  /// What goes out in one piece: the head, then data from where it was read to.
  struct Reply {
    nbd::ReplyHead head;
    std::unique_ptr<std::byte[]> buffer;
    std::size_t buffer_size = 0;
    std::span<const std::byte> data;  ///< in the buffer
    GuestRange rest;                  ///< follows before any other reply: a simple reply has one head for all of its data
    ReplyRoom::Share room;
  };

  asio::awaitable<bool> shake_hands();
  asio::awaitable<void> transmit();
  asio::awaitable<void> receive_requests();
  asio::awaitable<bool> take(nbd::Request request);
  asio::awaitable<bool> receive_exactly(std::span<std::byte> into);
  asio::awaitable<bool> skip(std::uint64_t bytes);

  asio::awaitable<void> answer(nbd::Request request, ReplyRoom::Share room);
  asio::awaitable<void> read_whole(nbd::Request request, ReplyRoom::Share& room);
  asio::awaitable<void> read_in_chunks(nbd::Request request, GuestOffset& at, ReplyRoom::Share& room);
  asio::awaitable<void> tell_block_status(nbd::Request request, ReplyRoom::Share& room);
  asio::awaitable<void> read_into(Reply& reply, GuestRange range);

  void push(Reply reply);
  asio::awaitable<void> send_replies();
  std::vector<Reply> take_batch();
  asio::awaitable<bool> send_rest(Reply& reply);
  nbd::ErrorValue told_as(const std::exception& failure) const;

  GuestRange first_piece(const GuestRange& range) const noexcept;
  std::uint64_t room_for(const nbd::Request& request) const noexcept;
  void close_after(std::chrono::seconds patience);
  void lose_client();
  void stop();

  SessionEnvironment& environment_;
  ClientSocket client_;
  asio::steady_timer deadline_;
  ReplyRoom room_;
  std::uint64_t piece_;  // what is read at once

  nbd::SessionFacts facts_;
  ServedDisk* disk_ = nullptr;

  std::array<std::byte, 4096> received_;
  std::size_t received_begin_ = 0, received_end_ = 0;

  std::deque<Reply> outbox_;
  Wakeup outgoing_;
  bool complete_ = false;  // nothing will be added to the outbox
  bool gone_ = false;      // nobody takes what is in the outbox

  TaskGroup answers_;
  TaskGroup sender_;
  StopSignal::Subscription on_stop_;
};

}  // namespace nasbackup
