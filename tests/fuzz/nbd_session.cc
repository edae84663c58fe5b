// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: the NBD server without its socket, from the first byte of the handshake to the last request. The input: a byte
// that says in what pieces the client's bytes come, then those bytes. Promised: what the server says is what the specification
// lets it say, whatever the pieces; it holds 64 KiB of a client at most and takes no byte too many; a range that is let pass lies
// in the export; and every reply is whole (proto.md, "Fixed newstyle negotiation" and "Transmission").
#include <algorithm>
#include <array>
#include <string_view>

#include "formats/is_zero.h"
#include "formats/nbd_negotiation.h"
#include "formats/nbd_requests.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup::nbd {
namespace {

using fuzz::Bytes;
using fuzz::require;

constexpr std::uint64_t kMostUnfragmented = 4u << 20;

const std::array<ExportFacts, 3>& exports() {
  static const std::array<ExportFacts, 3> all{{{"vda", 64u << 20}, {"vdb", 0}, {"a name with spaces", ~std::uint64_t{0} >> 1}}};
  return all;
}

/// A stream of structs; there are enough bytes for what is taken, or the other side was wrong.
class Stream {
 public:
  explicit Stream(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

  bool has(std::size_t bytes) const noexcept { return rest_.size() >= bytes; }
  bool empty() const noexcept { return rest_.empty(); }
  std::span<const std::byte> bytes(std::size_t count) {
    require(has(count), "a message is whole");
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  template <class Struct>
  Struct take() {
    return from_wire<Struct>(bytes(sizeof(Struct)));
  }

 private:
  std::span<const std::byte> rest_;
};

// ---- handshake -----------------------------------------------------------------------------------------------------------

struct Handshake {
  Negotiation negotiation{exports()};
  Bytes said;  ///< by the server
  std::size_t taken = 0;
};

Handshake shake_hands(std::span<const std::byte> client, std::size_t most_at_once) {
  Handshake hands;
  append_bytes(hands.said, hands.negotiation.take_output());
  while (hands.negotiation.state() == Negotiation::State::haggling && hands.taken < client.size()) {
    const std::span<std::byte> room = hands.negotiation.room();
    require(!room.empty() && room.size() <= Negotiation::kMostOptionData, "room is bounded, and there is some");
    const std::size_t some = std::min({room.size(), client.size() - hands.taken, most_at_once});
    std::copy_n(client.begin() + static_cast<std::ptrdiff_t>(hands.taken), some, room.begin());
    hands.taken += some;
    hands.negotiation.filled(some);
    append_bytes(hands.said, hands.negotiation.take_output());
  }
  return hands;
}

void require_same(const Handshake& a, const Handshake& b) {
  require(a.said == b.said && a.taken == b.taken && a.negotiation.state() == b.negotiation.state(), "pieces make no difference");
}

bool is_error(std::uint32_t type) noexcept { return (type & 0x80000000) != 0; }

void require_reply_data(OptionReplyType type, std::span<const std::byte> data) {
  Stream stream(data);
  if (type == OptionReplyType::ack) return require(data.empty(), "ACK has no data");
  if (type == OptionReplyType::server)
    return require(stream.take<Wire32>() == data.size() - sizeof(Wire32), "SERVER holds a name");
  if (type == OptionReplyType::info) {
    const auto info = static_cast<InfoType>(std::uint16_t{stream.take<Wire16>()});
    require(info == InfoType::name || data.size() == (info == InfoType::exported ? sizeof(ExportInfo) : sizeof(BlockSizeInfo)),
            "an INFO is as long as its type says");
    return;
  }
  if (type == OptionReplyType::meta_context) return require(stream.has(sizeof(Wire32) + 1), "META_CONTEXT has an id and a name");
  require(is_error(static_cast<std::uint32_t>(type)) && data.size() <= kMostString, "all else is an error with a text");
}

/// All replies to one option; the last one's type.
OptionReplyType hear_replies(Stream& server, std::uint32_t option) {
  for (;;) {
    const auto reply = server.take<OptionReplyHeader>();
    require(reply.magic == kOptionReplyMagic && reply.option == option, "a reply names its option");
    const auto type = static_cast<OptionReplyType>(std::uint32_t{reply.type});
    require_reply_data(type, server.bytes(reply.length));
    if (type == OptionReplyType::ack || is_error(reply.type)) return type;
  }
}

void hear_export_name(Stream& server, const Negotiation& done, bool no_zeroes) {
  require(done.state() == Negotiation::State::transmission, "EXPORT_NAME ends the handshake");
  require(server.take<ExportNameReply>().size == exports()[done.chosen()].size, "the size is that of the export");
  if (!no_zeroes) require(is_zero(server.bytes(kReservedZeroes)), "reserved bytes are zero");
  require(server.empty(), "nothing follows");
}

/// What the client said, option by option, and what it must have heard. The end is reached, or where the server hung up.
void hear_options(Stream& client, Stream& server, const Negotiation& done) {
  const std::uint32_t flags = client.take<Wire32>();
  while (client.has(sizeof(OptionHeader))) {
    const auto option = client.take<OptionHeader>();
    if (!client.has(option.length) || server.empty()) break;
    client.bytes(option.length);
    if (option.option == static_cast<std::uint32_t>(OptionType::export_name))
      return hear_export_name(server, done, (flags & kNoZeroes) != 0);
    const OptionReplyType last = hear_replies(server, option.option);
    if (option.option == static_cast<std::uint32_t>(OptionType::go) && last == OptionReplyType::ack)
      require(done.state() == Negotiation::State::transmission, "GO ends the handshake");
  }
  require(server.empty(), "nobody is answered who did not ask");
}

void require_replies(std::span<const std::byte> client, const Handshake& hands) {
  Stream said(client.first(hands.taken)), heard(hands.said);
  const auto greeting = heard.take<Greeting>();
  require(greeting.password == kInitPassword && greeting.magic == kOptionMagic, "the server greets");
  if (said.has(sizeof(Wire32)))
    hear_options(said, heard, hands.negotiation);
  else
    require(heard.empty(), "the client speaks next");
}

// ---- transmission --------------------------------------------------------------------------------------------------------

void require_chunk(const ReplyHead& head, const Request& request, std::uint64_t behind) {
  Stream stream(head);
  const auto chunk = stream.take<ChunkHeader>();
  require(chunk.magic == kStructuredReplyMagic && chunk.cookie == request.cookie, "a chunk names its request");
  require(chunk.length == head.size() - sizeof(ChunkHeader) + behind, "a chunk is as long as it says");
  const auto type = static_cast<ChunkType>(std::uint16_t{chunk.type});
  if (type == ChunkType::error || type == ChunkType::error_offset) {
    const auto error = from_wire<ErrorChunk>(head);
    require(error.error != 0 && (chunk.flags & kReplyDone) != 0, "an error ends the reply");
    const std::size_t tail = type == ChunkType::error ? 0 : sizeof(Wire64);
    require(head.size() == sizeof error + error.message_length + tail, "its text is in it");
  }
}

void require_short_reply(const ReplyHead& head, const Request& request, const SessionFacts& facts, bool good) {
  if (facts.structured_replies) return require_chunk(head, request, 0);
  require(head.size() == sizeof(SimpleReplyHeader), "a simple reply is as long as it is");
  const auto simple = from_wire<SimpleReplyHeader>(head);
  require(simple.magic == kSimpleReplyMagic && simple.cookie == request.cookie && (simple.error == 0) == good,
          "a simple reply names its request");
}

void require_status(const ReplyHead& head, const Request& request) {
  require(head.size() <= BlockStatusReply::kMostBytes, "a status is bounded");
  require_chunk(head, request, 0);
  Stream stream(head);
  require(stream.take<BlockStatus>().context == Negotiation::kAllocationContext, "it is of the context that was agreed on");
  std::uint64_t length = 0, count = 0;
  for (std::uint64_t last = ~std::uint64_t{0}; !stream.empty(); ++count) {
    const auto extent = stream.take<BlockDescriptor>();
    require(extent.length != 0 && extent.status != last, "neighbours differ");
    length += extent.length;
    last = extent.status;
  }
  require(count > 0 && length <= request.range.length, "the status is of what was asked for");
  if (request.wants_one_extent()) require(count == 1, "one extent was asked for");
}

void answer_status(const Request& request) {
  BlockStatusReply reply(request);
  const bool fine = request.cookie % 8 == 0;
  const std::uint64_t step = request.range.length / (fine ? 5000 : 7) + 1;
  for (std::uint32_t i = 0; !reply.complete(); ++i) reply.add(step + request.cookie % 3, i / (1 + request.cookie % 4) % 2 * 3);
  require_status(reply.finish(Negotiation::kAllocationContext), request);
}

void answer_read(const Request& request, const SessionFacts& facts) {
  require(request.range.length <= kMostPayload, "a read is bounded");
  if (request.must_not_fragment()) require(request.range.length <= kMostUnfragmented, "one chunk is bounded");
  if (!facts.structured_replies) return require_short_reply(simple_reply(request.cookie, ErrorValue::none), request, facts, true);
  require_chunk(data_chunk(request, request.range, true), request, request.range.length);
  require_chunk(hole_chunk(request, request.range, false), request, 0);
  require_chunk(failure_at(request, request.range.start, ErrorValue::io, "lost"), request, 0);
}

void answer(const Request& request, const SessionFacts& facts, const Verdict& verdict) {
  if (verdict.action == Action::read || verdict.action == Action::block_status) {
    require(request.range.length != 0 && request.range.start.value < facts.size &&
                request.range.length <= facts.size - request.range.start.value,
            "a range that is let pass lies in the export");
    return verdict.action == Action::read ? answer_read(request, facts) : answer_status(request);
  }
  const bool good = verdict.action == Action::succeed;
  require(good || verdict.error != ErrorValue::none, "a refusal says why");
  require_short_reply(good ? success(request, facts) : failure(request, facts, verdict.error, "no"), request, facts, good);
}

void transmit(Stream client, const Negotiation& done) {
  const SessionFacts facts{exports()[done.chosen()].size, done.structured_replies(), done.block_status()};
  require(!facts.block_status || facts.structured_replies, "block status needs structured replies");
  while (client.has(sizeof(RequestHeader))) {
    const auto request = parse_request(client.bytes(sizeof(RequestHeader)).first<sizeof(RequestHeader)>());
    if (!request) return;
    const Verdict verdict = judge(*request, facts, kMostUnfragmented);
    if (verdict.action == Action::disconnect) return;
    answer(*request, facts, verdict);
    require(payload_of(*request) <= kMostPayload, "what is read past is bounded");
    if (!client.has(payload_of(*request))) return;
    client.bytes(payload_of(*request));
  }
}

void run(fuzz::Input input) {
  const std::size_t most_at_once = 1 + input.byte();
  const auto client = input.rest();
  const Handshake hands = shake_hands(client, client.size() + 1);
  require_same(hands, shake_hands(client, most_at_once));
  require_replies(client, hands);
  if (hands.negotiation.state() == Negotiation::State::transmission)
    transmit(Stream(client.subspan(hands.taken)), hands.negotiation);
}

}  // namespace
}  // namespace nasbackup::nbd

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::nbd::run(nasbackup::fuzz::Input(nasbackup::fuzz::bytes_of(data, size)));
  return 0;
}
