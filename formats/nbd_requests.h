// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The server's side of NBD's transmission phase (proto.md, "Transmission") without the socket: what a request asks of an export
// that can only be read, and the bytes of the replies. Nothing is allocated by a number that a client sends.
// Pure functions, and values that one thread uses at a time; nothing throws but std::bad_alloc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "formats/nbd_protocol.h"
#include "formats/units.h"

namespace nasbackup::nbd {

/// What the handshake came to, as far as requests are judged by it.
struct SessionFacts {
  std::uint64_t size = 0;  ///< of the export, bytes
  bool structured_replies = false;
  bool block_status = false;  ///< base:allocation was selected
};

struct Request {
  std::uint16_t flags = 0;
  RequestType type = RequestType::read;  ///< or a number that is none of them
  std::uint64_t cookie = 0;
  GuestRange range;

  bool wants_one_extent() const noexcept { return (flags & kFlagReqOne) != 0; }
  bool must_not_fragment() const noexcept { return (flags & kFlagDf) != 0; }
};

/// Nothing when it is no request: the stream cannot be trusted any more, and the connection is to be closed.
std::optional<Request> parse_request(std::span<const std::byte, sizeof(RequestHeader)> bytes) noexcept;

/// Bytes that follow the request and belong to it; they are to be read past, whatever the answer.
std::uint64_t payload_of(const Request& request) noexcept;

enum class Action { read, block_status, succeed, refuse, disconnect };

struct Verdict {
  Action action = Action::refuse;
  ErrorValue error = ErrorValue::none;  ///< with `refuse`
};

/// What to do about a request. A range that it lets pass lies inside the export, is not empty, and of a read at most
/// kMostPayload. Reads that must not be fragmented are let pass up to `most_unfragmented` bytes.
Verdict judge(const Request& request, const SessionFacts& session, std::uint64_t most_unfragmented) noexcept;

/// The head of a reply; in some cases data follows, which is sent from where it lies.
using ReplyHead = std::vector<std::byte>;

/// A simple reply without data, or with data behind it.
ReplyHead simple_reply(std::uint64_t cookie, ErrorValue error);
/// What a request without data comes to, in the kind of reply that was agreed on.
ReplyHead success(const Request& request, const SessionFacts& session);
/// The same for one that failed. `says`: for people; the client shows it, when it can.
ReplyHead failure(const Request& request, const SessionFacts& session, ErrorValue error, std::string_view says);

/// The head of a chunk; the data of the range follows. `last`: no other chunk does.
ReplyHead data_chunk(const Request& request, GuestRange range, bool last);
/// A chunk that says that the range is all zero.
ReplyHead hole_chunk(const Request& request, GuestRange range, bool last);
/// A read breaks off here, after chunks that were good; the last chunk.
ReplyHead failure_at(const Request& request, GuestOffset at, ErrorValue error, std::string_view says);

/// Collects the extents of one range into a reply to BLOCK_STATUS. Neighbours with one status become one.
class BlockStatusReply {
 public:
  /// Clients ask again behind what they were told.
  static constexpr std::size_t kMostDescriptors = 4096;
  /// What a reply takes at most.
  static constexpr std::size_t kMostBytes = sizeof(BlockStatus) + kMostDescriptors * sizeof(BlockDescriptor);

  explicit BlockStatusReply(const Request& request) noexcept : request_(request), at_(request.range.start) {}

  /// Where the next extent is to begin.
  GuestOffset at() const noexcept { return at_; }
  /// The range is told of, or the reply is full.
  bool complete() const noexcept { return full_ || at_ >= request_.range.end(); }
  /// What lies from at() on; not empty, and cut at the end of the range. To be called until complete().
  void add(std::uint64_t length, std::uint32_t status);
  /// The whole reply; at least one extent was added.
  ReplyHead finish(std::uint32_t context) const;

 private:
  Request request_;
  GuestOffset at_;
  bool full_ = false;
  std::vector<BlockDescriptor> descriptors_;
};

}  // namespace nasbackup::nbd
