// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The client's side of the NBD handshake (proto.md, "Fixed newstyle negotiation") in one piece, without a socket: all that a
// client says which wants one export and some of its metadata contexts, so that the server needs not wait for it once. Used by
// one thread at a time.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nasbackup::nbd {

/// Client flags, STRUCTURED_REPLY, SET_META_CONTEXT and GO, in this order, as libnbd says them one by one.
std::vector<std::byte> client_hello(std::string_view export_name, std::span<const std::string> contexts);

/// What a server says to it, from its greeting to the last answer to GO, whether it agrees or not.
class HelloAnswer {
 public:
  /// A server that says more is refused.
  static constexpr std::size_t kMost = 64u << 10;

  /// The next bytes. Throws FormatError when this is no NBD server, or says more than it was asked.
  void take(std::span<const std::byte> bytes);
  bool whole() const noexcept { return whole_; }
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  bool take_message();

  std::vector<std::byte> bytes_;
  std::size_t next_ = 0;  // where the first message begins that is not looked at yet
  bool whole_ = false;
};

}  // namespace nasbackup::nbd
