// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Requests and replies; see nbd_requests.h.
#include "formats/nbd_requests.h"

#include <algorithm>
#include <cassert>

namespace nasbackup::nbd {

namespace {

constexpr Verdict refused(ErrorValue error) noexcept { return {Action::refuse, error}; }

bool lies_inside(const GuestRange& range, std::uint64_t size) noexcept {
  return range.length != 0 && range.start.value < size && range.length <= size - range.start.value;
}

/// FUA is advertised, and then valid for all commands ("Command flags"); the others each for its own.
bool has_flags_beyond(const Request& request, std::uint16_t allowed) noexcept {
  return (request.flags & ~(allowed | kFlagFua)) != 0;
}

// Beyond the payload that we advertise EOVERFLOW is allowed for structured replies alone ("NBD_CMD_READ").
Verdict judge_read(const Request& request, const SessionFacts& session, std::uint64_t most_unfragmented) noexcept {
  if (has_flags_beyond(request, session.structured_replies ? kFlagDf : 0) || !lies_inside(request.range, session.size))
    return refused(ErrorValue::invalid);
  if (request.range.length > kMostPayload)
    return refused(session.structured_replies ? ErrorValue::overflow : ErrorValue::invalid);
  if (request.must_not_fragment() && request.range.length > most_unfragmented) return refused(ErrorValue::overflow);
  return {Action::read};
}

Verdict judge_block_status(const Request& request, const SessionFacts& session) noexcept {
  if (!session.block_status || has_flags_beyond(request, kFlagReqOne) || !lies_inside(request.range, session.size))
    return refused(ErrorValue::invalid);
  return {Action::block_status};
}

ChunkHeader chunk_header(const Request& request, ChunkType type, bool last, std::size_t length) noexcept {
  return {.flags = last ? kReplyDone : std::uint16_t{0},
          .type = static_cast<std::uint16_t>(type),
          .cookie = request.cookie,
          .length = static_cast<std::uint32_t>(length)};
}

/// What `bytes` of a chunk's struct have behind its header, and more.
template <class Chunk>
constexpr std::size_t length_of(std::size_t more = 0) noexcept {
  return sizeof(Chunk) - sizeof(ChunkHeader) + more;
}

ReplyHead error_chunk(const Request& request, ChunkType type, ErrorValue error, std::string_view says, std::size_t tail) {
  says = says.substr(0, kMostString);
  ReplyHead head;
  append_wire(head, ErrorChunk{.header = chunk_header(request, type, true, length_of<ErrorChunk>(says.size() + tail)),
                               .error = static_cast<std::uint32_t>(error),
                               .message_length = static_cast<std::uint16_t>(says.size())});
  append_bytes(head, std::as_bytes(std::span(says)));
  return head;
}

}  // namespace

std::optional<Request> parse_request(std::span<const std::byte, sizeof(RequestHeader)> bytes) noexcept {
  const auto header = from_wire<RequestHeader>(bytes);
  if (header.magic != kRequestMagic) return std::nullopt;
  return Request{header.flags,
                 static_cast<RequestType>(std::uint16_t{header.type}),
                 header.cookie,
                 {GuestOffset(header.offset), header.length}};
}

std::uint64_t payload_of(const Request& request) noexcept {
  return request.type == RequestType::write ? request.range.length : 0;
}

Verdict judge(const Request& request, const SessionFacts& session, std::uint64_t most_unfragmented) noexcept {
  switch (request.type) {
    case RequestType::read:
      return judge_read(request, session, most_unfragmented);
    case RequestType::write:
      // Whoever announces more than anybody may send is not waited for ("Size constraints").
      if (request.range.length > kMostPayload) return {Action::disconnect};
      return refused(ErrorValue::not_permitted);
    case RequestType::trim:
    case RequestType::write_zeroes:
      return refused(ErrorValue::not_permitted);
    case RequestType::disconnect:
      return {Action::disconnect};
    case RequestType::flush:
      return has_flags_beyond(request, 0) ? refused(ErrorValue::invalid) : Verdict{Action::succeed};
    case RequestType::cache:
      if (has_flags_beyond(request, 0) || !lies_inside(request.range, session.size)) return refused(ErrorValue::invalid);
      return {Action::succeed};
    case RequestType::block_status:
      return judge_block_status(request, session);
  }
  return refused(ErrorValue::invalid);
}

ReplyHead simple_reply(std::uint64_t cookie, ErrorValue error) {
  ReplyHead head;
  append_wire(head, SimpleReplyHeader{.error = static_cast<std::uint32_t>(error), .cookie = cookie});
  return head;
}

ReplyHead success(const Request& request, const SessionFacts& session) {
  if (!session.structured_replies) return simple_reply(request.cookie, ErrorValue::none);
  ReplyHead head;
  append_wire(head, chunk_header(request, ChunkType::none, true, 0));
  return head;
}

ReplyHead failure(const Request& request, const SessionFacts& session, ErrorValue error, std::string_view says) {
  if (!session.structured_replies) return simple_reply(request.cookie, error);
  return error_chunk(request, ChunkType::error, error, says, 0);
}

ReplyHead data_chunk(const Request& request, GuestRange range, bool last) {
  ReplyHead head;
  append_wire(head, OffsetData{.header = chunk_header(request, ChunkType::offset_data, last, length_of<OffsetData>(range.length)),
                               .offset = range.start.value});
  return head;
}

ReplyHead hole_chunk(const Request& request, GuestRange range, bool last) {
  ReplyHead head;
  append_wire(head, OffsetHole{.header = chunk_header(request, ChunkType::offset_hole, last, length_of<OffsetHole>()),
                               .offset = range.start.value,
                               .size = static_cast<std::uint32_t>(range.length)});
  return head;
}

ReplyHead failure_at(const Request& request, GuestOffset at, ErrorValue error, std::string_view says) {
  ReplyHead head = error_chunk(request, ChunkType::error_offset, error, says, sizeof(Wire64));
  append_wire(head, Wire64(at.value));
  return head;
}

// A request's length has 32 bits, so that no sum of lengths inside it can overflow a descriptor.
void BlockStatusReply::add(std::uint64_t length, std::uint32_t status) {
  assert(length != 0 && !complete());
  length = std::min(length, request_.range.end() - at_);
  const bool joins = !descriptors_.empty() && descriptors_.back().status == status;
  if (!joins && descriptors_.size() == (request_.wants_one_extent() ? 1 : kMostDescriptors)) {
    full_ = true;
    return;
  }
  if (!joins) descriptors_.push_back({0, status});
  descriptors_.back().length = descriptors_.back().length + static_cast<std::uint32_t>(length);
  at_ += length;
}

ReplyHead BlockStatusReply::finish(std::uint32_t context) const {
  assert(!descriptors_.empty());
  const std::size_t bytes = descriptors_.size() * sizeof(BlockDescriptor);
  ReplyHead head;
  head.reserve(sizeof(BlockStatus) + bytes);
  append_wire(head, BlockStatus{.header = chunk_header(request_, ChunkType::block_status, true, length_of<BlockStatus>(bytes)),
                                .context = context});
  append_bytes(head, std::as_bytes(std::span(descriptors_)));
  return head;
}

}  // namespace nasbackup::nbd
