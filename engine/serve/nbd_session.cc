// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One client; see nbd_session.h.
#include "engine/serve/nbd_session.h"

#include <algorithm>
#include <exception>

#include "formats/is_zero.h"

namespace nasbackup {

namespace {

using std::chrono::seconds;

/// What is read at once, and leaves as one chunk; a session has room for two of them at least.
constexpr std::uint64_t kMostPiece = 4u << 20;
/// Charged for each request beside its data: its coroutine, its reply, and that it takes a turn. So it also bounds their number.
constexpr std::uint64_t kRoomBeside = 32u << 10;
static_assert(nbd::BlockStatusReply::kMostBytes <= 2 * kRoomBeside);
/// Replies that leave together.
constexpr std::size_t kMostBatch = 16;
constexpr std::size_t kBatchBytes = 1u << 20;
/// For a client to fetch what it asked for: when it has left, and when the server stops.
constexpr seconds kPatience{10}, kPatienceAtStop{1};

iovec piece_of(std::span<const std::byte> bytes) noexcept {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};  // NOLINT: sendmsg does not write
}

std::uint64_t piece_within(std::uint64_t room) noexcept {
  return std::min(kMostPiece, round_down(room / 2 - kRoomBeside, kRoomBeside));
}

const char* reason_for(nbd::ErrorValue error) noexcept {
  if (error == nbd::ErrorValue::not_permitted) return "the export can only be read";
  return error == nbd::ErrorValue::overflow ? "the range is too long for one reply" : "no request of this kind is taken here";
}

std::uint32_t status_of(ExtentKind kind) noexcept { return kind == ExtentKind::zero ? nbd::kStateHole | nbd::kStateZero : 0; }

}  // namespace

NbdSession::NbdSession(SessionEnvironment& environment, FileDescriptor client)
    : environment_(environment),
      client_(environment.loop, std::move(client)),
      deadline_(environment.loop),
      room_(environment.loop, environment.room),
      piece_(piece_within(environment.room)),
      outgoing_(environment.loop),
      answers_(environment.loop, [this](std::exception_ptr) { lose_client(); }),
      sender_(environment.loop, [this](std::exception_ptr) { lose_client(); }),
      on_stop_(environment.stop, [this] { stop(); }) {}

asio::awaitable<void> NbdSession::run() {
  close_after(environment_.handshake_timeout);
  if (!environment_.stop.stopped() && co_await shake_hands()) {
    deadline_.cancel();
    // More clients than there are places wait here, their first request unanswered.
    const ReplyRoom::Share place = co_await environment_.places.take(1);
    co_await transmit();
  }
  deadline_.cancel();
  client_.close();
}

void NbdSession::stop() {
  client_.stop_receiving();
  close_after(kPatienceAtStop);
}

/// Nobody takes what is in the outbox, or will be.
void NbdSession::lose_client() {
  gone_ = true;
  client_.close();
  outbox_.clear();
}

// The timer may fire when the session is no more.
void NbdSession::close_after(seconds patience) {
  deadline_.expires_after(patience);
  deadline_.async_wait([session = weak_from_this()](const boost::system::error_code& cancelled) {
    const auto alive = session.lock();
    if (!cancelled && alive) alive->client_.close();
  });
}

// ---- handshake -----------------------------------------------------------------------------------------------------------

asio::awaitable<bool> NbdSession::shake_hands() {
  nbd::Negotiation negotiation(environment_.exports);
  for (;;) {
    const std::vector<std::byte> output = negotiation.take_output();
    std::vector<iovec> pieces{piece_of(output)};
    const bool sent = output.empty() || co_await client_.send(std::move(pieces));
    if (!sent || negotiation.state() != nbd::Negotiation::State::haggling) break;
    const std::size_t got = co_await client_.receive(negotiation.room());
    if (got == 0) co_return false;
    negotiation.filled(got);
  }
  if (negotiation.state() != nbd::Negotiation::State::transmission) co_return false;
  disk_ = &environment_.disks[negotiation.chosen()];
  facts_ = {disk_->size(), negotiation.structured_replies(), negotiation.block_status()};
  co_return true;
}

// ---- requests ------------------------------------------------------------------------------------------------------------

asio::awaitable<void> NbdSession::transmit() {
  sender_.spawn(send_replies());
  answers_.spawn(receive_requests());
  std::exception_ptr failure;
  try {
    co_await answers_.join();
  } catch (...) {
    failure = std::current_exception();
  }
  complete_ = true;
  outgoing_.notify_all();
  co_await sender_.join();
  if (failure) std::rethrow_exception(failure);
}

asio::awaitable<void> NbdSession::receive_requests() {
  std::array<std::byte, sizeof(nbd::RequestHeader)> bytes;
  while (co_await receive_exactly(bytes)) {
    const auto request = nbd::parse_request(bytes);
    if (!request) client_.close();
    if (!request || !co_await take(*request)) break;
  }
  if (!environment_.stop.stopped()) close_after(kPatience);
}

// Waits for room before it goes on: that is what makes a client wait that asks for more than it fetches.
asio::awaitable<bool> NbdSession::take(nbd::Request request) {
  const nbd::Verdict verdict = nbd::judge(request, facts_, piece_);
  if (verdict.action == nbd::Action::disconnect) co_return false;
  ReplyRoom::Share room = co_await room_.take(room_for(request));
  if (verdict.action == nbd::Action::read || verdict.action == nbd::Action::block_status) {
    answers_.spawn(answer(request, std::move(room)));
    co_return true;
  }
  // Before the answer: libnbd knows a request only when it has sent all of it.
  if (!co_await skip(nbd::payload_of(request))) co_return false;
  Reply reply;
  reply.room = std::move(room);
  reply.head = verdict.action == nbd::Action::succeed ? nbd::success(request, facts_)
                                                      : nbd::failure(request, facts_, verdict.error, reason_for(verdict.error));
  push(std::move(reply));
  co_return true;
}

asio::awaitable<bool> NbdSession::receive_exactly(std::span<std::byte> into) {
  while (!into.empty()) {
    if (received_begin_ == received_end_) {
      received_begin_ = 0;
      received_end_ = co_await client_.receive(received_);
      if (received_end_ == 0) co_return false;
    }
    const std::size_t some = std::min(into.size(), received_end_ - received_begin_);
    std::copy_n(received_.begin() + received_begin_, some, into.begin());
    received_begin_ += some;
    into = into.subspan(some);
  }
  co_return true;
}

asio::awaitable<bool> NbdSession::skip(std::uint64_t bytes) {
  std::array<std::byte, 4096> dropped;
  while (bytes != 0) {
    const std::size_t some = std::min<std::uint64_t>(bytes, dropped.size());
    if (!co_await receive_exactly(std::span(dropped).first(some))) co_return false;
    bytes -= some;
  }
  co_return true;
}

// ---- answers -------------------------------------------------------------------------------------------------------------

GuestRange NbdSession::first_piece(const GuestRange& range) const noexcept {
  return {range.start, std::min(range.length, piece_)};
}

std::uint64_t NbdSession::room_for(const nbd::Request& request) const noexcept {
  const bool read = request.type == nbd::RequestType::read;
  return kRoomBeside + (read ? std::min(request.range.length, piece_) : kRoomBeside);
}

// Also a reply that says what failed holds the request's share until it is sent.
asio::awaitable<void> NbdSession::answer(nbd::Request request, ReplyRoom::Share room) {
  GuestOffset at = request.range.start;
  Reply failed;
  try {
    if (request.type == nbd::RequestType::block_status)
      co_await tell_block_status(request, room);
    else if (facts_.structured_replies)
      co_await read_in_chunks(request, at, room);
    else
      co_await read_whole(request, room);
    co_return;
  } catch (const std::exception& failure) {
    const nbd::ErrorValue error = told_as(failure);
    const bool in_chunks = facts_.structured_replies && request.type == nbd::RequestType::read;
    failed.head =
        in_chunks ? nbd::failure_at(request, at, error, failure.what()) : nbd::failure(request, facts_, error, failure.what());
  }
  failed.room = std::move(room);
  push(std::move(failed));
}

nbd::ErrorValue NbdSession::told_as(const std::exception& failure) const {
  if (environment_.stop.stopped()) return nbd::ErrorValue::shutdown;
  environment_.on_failed_read(failure.what());
  return nbd::ErrorValue::io;
}

/// Fills the reply's data with the range.
asio::awaitable<void> NbdSession::read_into(Reply& reply, GuestRange range) {
  const std::size_t size = disk_->buffer_for(range);
  if (size > reply.buffer_size) {
    reply.buffer = std::make_unique_for_overwrite<std::byte[]>(size);
    reply.buffer_size = size;
  }
  reply.data = co_await disk_->read(range, {reply.buffer.get(), size});
}

// A simple reply begins when its first piece is there; the sender reads the others.
asio::awaitable<void> NbdSession::read_whole(nbd::Request request, ReplyRoom::Share& room) {
  const GuestRange piece = first_piece(request.range);
  Reply reply;
  co_await read_into(reply, piece);
  reply.room = std::move(room);
  reply.head = nbd::simple_reply(request.cookie, nbd::ErrorValue::none);
  reply.rest = {piece.end(), request.range.length - piece.length};
  push(std::move(reply));
}

// Each piece leaves when it is there. What is all zero is told and not sent, which costs the looking only.
asio::awaitable<void> NbdSession::read_in_chunks(nbd::Request request, GuestOffset& at, ReplyRoom::Share& room) {
  while (at < request.range.end() && !gone_) {
    const GuestRange piece = first_piece({at, request.range.end() - at});
    const bool last = piece.end() == request.range.end();
    if (!room) room = co_await room_.take(kRoomBeside + piece.length);
    Reply reply;
    co_await read_into(reply, piece);
    reply.room = std::move(room);
    if (is_zero(reply.data)) {
      reply.head = nbd::hole_chunk(request, piece, last);
      reply.data = {};
      reply.buffer.reset();
    } else {
      reply.head = nbd::data_chunk(request, piece, last);
    }
    push(std::move(reply));
    at = piece.end();
  }
}

asio::awaitable<void> NbdSession::tell_block_status(nbd::Request request, ReplyRoom::Share& room) {
  nbd::BlockStatusReply status(request);
  while (!status.complete()) {
    const std::vector<Extent> found = co_await disk_->extents(status.at());
    for (const Extent& extent : found)
      if (!status.complete()) status.add(extent.range.length, status_of(extent.kind));
  }
  Reply reply;
  reply.room = std::move(room);
  reply.head = status.finish(nbd::Negotiation::kAllocationContext);
  push(std::move(reply));
}

// ---- replies -------------------------------------------------------------------------------------------------------------

void NbdSession::push(Reply reply) {
  if (gone_) return;
  outbox_.push_back(std::move(reply));
  outgoing_.notify_all();
}

asio::awaitable<void> NbdSession::send_replies() {
  for (;;) {
    while (outbox_.empty() && !complete_) co_await outgoing_.wait();
    if (outbox_.empty()) co_return;
    std::vector<Reply> batch = take_batch();
    std::vector<iovec> pieces;
    for (const Reply& reply : batch) {
      pieces.push_back(piece_of(reply.head));
      if (!reply.data.empty()) pieces.push_back(piece_of(reply.data));
    }
    if (!co_await client_.send(std::move(pieces)) || !co_await send_rest(batch.back())) break;
  }
  lose_client();
}

std::vector<NbdSession::Reply> NbdSession::take_batch() {
  std::vector<Reply> batch;
  for (std::size_t bytes = 0; !outbox_.empty() && batch.size() < kMostBatch && bytes < kBatchBytes;) {
    bytes += outbox_.front().data.size();
    batch.push_back(std::move(outbox_.front()));
    outbox_.pop_front();
    if (batch.back().rest.length != 0) break;
  }
  return batch;
}

// The head has said that all is well: when it is not, hanging up is the one way to say so ("NBD_CMD_READ", simple replies).
asio::awaitable<bool> NbdSession::send_rest(Reply& reply) {
  try {
    while (reply.rest.length != 0) {
      const GuestRange piece = first_piece(reply.rest);
      co_await read_into(reply, piece);
      std::vector<iovec> pieces{piece_of(reply.data)};
      if (!co_await client_.send(std::move(pieces))) co_return false;
      reply.rest = {piece.end(), reply.rest.length - piece.length};
    }
    co_return true;
  } catch (const std::exception& failure) {
    told_as(failure);
    co_return false;
  }
}

}  // namespace nasbackup
