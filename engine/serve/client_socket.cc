// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See client_socket.h.
#include "engine/serve/client_socket.h"

#include <limits.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace nasbackup {

namespace {

/// What one call takes.
constexpr std::size_t kMostPieces = 64;
static_assert(kMostPieces <= IOV_MAX);

/// Drops what was sent from the front.
void advance(std::span<iovec>& pieces, std::size_t sent) noexcept {
  while (!pieces.empty() && sent >= pieces.front().iov_len) {
    sent -= pieces.front().iov_len;
    pieces = pieces.subspan(1);
  }
  if (pieces.empty()) return;
  pieces.front().iov_base = static_cast<std::byte*>(pieces.front().iov_base) + sent;
  pieces.front().iov_len -= sent;
}

bool would_wait(int error) noexcept { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

ClientSocket::ClientSocket(asio::any_io_executor loop, FileDescriptor socket) : socket_(std::move(loop), socket.release()) {}

asio::awaitable<std::size_t> ClientSocket::receive(std::span<std::byte> into) {
  while (socket_.is_open() && receives_) {
    const ssize_t got = ::recv(socket_.native_handle(), into.data(), into.size(), MSG_DONTWAIT);
    if (got >= 0) co_return static_cast<std::size_t>(got);
    if (errno == EINTR) continue;
    if (!would_wait(errno)) break;
    if (!co_await wait(asio::posix::descriptor_base::wait_read)) break;
  }
  co_return 0;
}

asio::awaitable<bool> ClientSocket::send(std::vector<iovec> pieces) {
  std::span<iovec> rest(pieces);
  while (!rest.empty() && socket_.is_open()) {
    msghdr message{};
    message.msg_iov = rest.data();
    message.msg_iovlen = std::min(rest.size(), kMostPieces);
    const ssize_t sent = ::sendmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      advance(rest, static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (!would_wait(errno)) break;
    if (!co_await wait(asio::posix::descriptor_base::wait_write)) break;
  }
  co_return rest.empty();
}

asio::awaitable<bool> ClientSocket::wait(asio::posix::descriptor_base::wait_type readiness) {
  boost::system::error_code error;
  co_await socket_.async_wait(readiness, asio::redirect_error(asio::use_awaitable, error));
  co_return !error;
}

// Over TCP bytes go on coming after a shutdown.
void ClientSocket::stop_receiving() noexcept {
  receives_ = false;
  if (socket_.is_open()) ::shutdown(socket_.native_handle(), SHUT_RD);
}

void ClientSocket::close() noexcept {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

}  // namespace nasbackup
