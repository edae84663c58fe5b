// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A client's connection: bytes in, and what lies in several places out with one call. It asks the kernel first and waits on the
// loop only when there is nothing: Asio's own async_write would cut everything into 64 KiB.
// Used on the loop's thread only; one receive() and one send() may be under way at once.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "engine/io/file_descriptor.h"

namespace nasbackup {

namespace asio = boost::asio;

class ClientSocket {
 public:
  /// A connected socket that does not block.
  ClientSocket(asio::any_io_executor loop, FileDescriptor socket);

  /// Some bytes, at least one; 0 when no more come, for whatever reason.
  asio::awaitable<std::size_t> receive(std::span<std::byte> into);
  /// All of it; false when the client is gone.
  asio::awaitable<bool> send(std::vector<iovec> pieces);
  /// From now on receive() returns 0; what is on its way out still goes.
  void stop_receiving() noexcept;
  /// Ends both; who waits in here comes back.
  void close() noexcept;

 private:
  asio::awaitable<bool> wait(asio::posix::descriptor_base::wait_type readiness);

  asio::posix::stream_descriptor socket_;
  bool receives_ = true;
};

}  // namespace nasbackup
