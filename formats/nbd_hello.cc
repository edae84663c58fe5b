// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The client's side of the handshake; see nbd_hello.h.
#include "formats/nbd_hello.h"

#include <cstdint>

#include "formats/format_error.h"
#include "formats/nbd_protocol.h"

namespace nasbackup::nbd {

namespace {

using Bytes = std::vector<std::byte>;

void append_text(Bytes& bytes, std::string_view text) {
  append_wire(bytes, Wire32(static_cast<std::uint32_t>(text.size())));
  append_bytes(bytes, std::as_bytes(std::span(text)));
}

void append_option(Bytes& bytes, OptionType type, const Bytes& data) {
  append_wire(bytes, OptionHeader{kOptionMagic, static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(data.size())});
  append_bytes(bytes, data);
}

Bytes context_query(std::string_view export_name, std::span<const std::string> contexts) {
  Bytes data;
  append_text(data, export_name);
  append_wire(data, Wire32(static_cast<std::uint32_t>(contexts.size())));
  for (const std::string& context : contexts) append_text(data, context);
  return data;
}

Bytes go_request(std::string_view export_name) {
  Bytes data;
  append_text(data, export_name);
  append_wire(data, Wire16(1));
  append_wire(data, Wire16(static_cast<std::uint16_t>(InfoType::block_size)));
  return data;
}

constexpr std::uint32_t kErrorBit = 1u << 31;  // "Option reply types"

bool ends_the_handshake(const OptionReplyHeader& reply) noexcept {
  return reply.option == static_cast<std::uint32_t>(OptionType::go) &&
         (reply.type == static_cast<std::uint32_t>(OptionReplyType::ack) || (reply.type & kErrorBit) != 0);
}

}  // namespace

std::vector<std::byte> client_hello(std::string_view export_name, std::span<const std::string> contexts) {
  Bytes bytes;
  append_wire(bytes, Wire32(kFixedNewstyle | kNoZeroes));
  append_option(bytes, OptionType::structured_reply, {});
  append_option(bytes, OptionType::set_meta_context, context_query(export_name, contexts));
  append_option(bytes, OptionType::go, go_request(export_name));
  return bytes;
}

void HelloAnswer::take(std::span<const std::byte> bytes) {
  if (bytes.size() > kMost - bytes_.size()) throw FormatError("handshake: answer of more than 65536 bytes");
  append_bytes(bytes_, bytes);
  while (!whole_ && take_message()) {
  }
  if (whole_ && next_ != bytes_.size()) throw FormatError("handshake: bytes behind the last answer");
}

/// False when the message has not come as a whole.
bool HelloAnswer::take_message() {
  const std::span<const std::byte> rest = std::span(bytes_).subspan(next_);
  if (next_ == 0) {
    if (rest.size() < sizeof(Greeting)) return false;
    const auto greeting = from_wire<Greeting>(rest);
    if (greeting.password != kInitPassword || greeting.magic != kOptionMagic)
      throw FormatError("handshake: greeting: not that of an NBD server of the newstyle");
    next_ += sizeof(Greeting);
    return true;
  }
  if (rest.size() < sizeof(OptionReplyHeader)) return false;
  const auto reply = from_wire<OptionReplyHeader>(rest);
  if (reply.magic != kOptionReplyMagic) throw FormatError("handshake: an answer without its magic");
  if (reply.length > rest.size() - sizeof reply) return false;
  next_ += sizeof reply + reply.length;
  whole_ = ends_the_handshake(reply);
  return true;
}

}  // namespace nasbackup::nbd
