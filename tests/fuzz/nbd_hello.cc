// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: what a server says to the client's handshake in one piece. The input: a byte that says in what pieces the answer
// comes, then the answer. Promised: the pieces make no difference; at most 64 KiB of a server are held; and an answer that is
// whole ends with that to GO, behind the greeting, each with its magic (proto.md, "Fixed newstyle negotiation").
#include <algorithm>

#include "formats/nbd_hello.h"
#include "formats/nbd_protocol.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup::nbd {
namespace {

using fuzz::require;
using Piece = std::span<const std::byte>;

/// What was heard, or nothing when it was refused.
std::optional<HelloAnswer> hear(Piece said, std::size_t most_at_once) {
  return fuzz::accepted([&] {
    HelloAnswer answer;
    while (!said.empty()) {
      const Piece piece = said.first(std::min(most_at_once, said.size()));
      answer.take(piece);
      require(answer.bytes().size() <= HelloAnswer::kMost, "a server that says more is refused");
      said = said.subspan(piece.size());
    }
    return answer;
  });
}

void require_whole(Piece answer) {
  require(answer.size() >= sizeof(Greeting) + sizeof(OptionReplyHeader), "a greeting and an answer are there");
  Piece rest = answer.subspan(sizeof(Greeting));
  for (;;) {
    const auto reply = from_wire<OptionReplyHeader>(rest);
    require(reply.magic == kOptionReplyMagic, "each answer has its magic");
    rest = rest.subspan(sizeof reply + reply.length);
    if (rest.empty()) return require(reply.option == static_cast<std::uint32_t>(OptionType::go), "that to GO is the last");
  }
}

void run(fuzz::Input input) {
  const std::size_t most_at_once = 1 + input.byte();
  const Piece said = input.rest();
  const auto together = hear(said, said.size() + 1), in_pieces = hear(said, most_at_once);
  require(together.has_value() == in_pieces.has_value(), "pieces make no difference");
  if (!together) return;
  require(together->whole() == in_pieces->whole() && std::ranges::equal(together->bytes(), in_pieces->bytes()),
          "nor do they here");
  require(std::ranges::equal(together->bytes(), said), "nothing is lost");
  if (together->whole()) require_whole(said);
}

}  // namespace
}  // namespace nasbackup::nbd

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::nbd::run(nasbackup::fuzz::Input(nasbackup::fuzz::bytes_of(data, size)));
  return 0;
}
