// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A client's words for the tests of the NBD handshake, and the server's replies taken apart. Test data, one thread.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "formats/nbd_negotiation.h"

namespace nasbackup::nbd {

using Bytes = std::vector<std::byte>;

inline Bytes text_bytes(std::string_view text) {
  const auto raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}

inline std::string text_of(const Bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

template <class... Parts>
Bytes joined(const Parts&... parts) {
  Bytes all;
  (all.insert(all.end(), parts.begin(), parts.end()), ...);
  return all;
}

template <class Struct>
Bytes wire(const Struct& value) {
  Bytes bytes;
  append_wire(bytes, value);
  return bytes;
}

inline Bytes be32(std::uint32_t value) { return wire(Wire32(value)); }
inline Bytes be16(std::uint16_t value) { return wire(Wire16(value)); }
inline Bytes counted(std::string_view text) { return joined(be32(static_cast<std::uint32_t>(text.size())), text_bytes(text)); }

inline Bytes option(OptionType type, const Bytes& data = {}) {
  return joined(wire(OptionHeader{kOptionMagic, static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(data.size())}),
                data);
}

inline Bytes client_flags(std::uint32_t flags = kFixedNewstyle | kNoZeroes) { return be32(flags); }

inline Bytes info_data(std::string_view name, const std::vector<InfoType>& infos = {}) {
  Bytes data = joined(counted(name), be16(static_cast<std::uint16_t>(infos.size())));
  for (const InfoType info : infos) data = joined(data, be16(static_cast<std::uint16_t>(info)));
  return data;
}

inline Bytes meta_data(std::string_view name, const std::vector<std::string_view>& queries) {
  Bytes data = joined(counted(name), be32(static_cast<std::uint32_t>(queries.size())));
  for (const std::string_view query : queries) data = joined(data, counted(query));
  return data;
}

struct OptionReply {
  OptionType option;
  OptionReplyType type;
  Bytes data;
};

/// Feeds the negotiation as a socket would, and collects what it says.
class Conversation {
 public:
  explicit Conversation(std::span<const ExportFacts> exports, std::size_t most_at_once = 1 << 20)
      : negotiation_(exports), most_at_once_(most_at_once), output_(negotiation_.take_output()) {}

  /// Returns how many of the bytes it took.
  std::size_t say(const Bytes& bytes) {
    std::size_t said = 0;
    while (said < bytes.size() && negotiation_.state() == Negotiation::State::haggling) {
      const std::span<std::byte> room = negotiation_.room();
      const std::size_t some = std::min({room.size(), bytes.size() - said, most_at_once_});
      if (some == 0) break;  // the judge sees that not all was taken
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(said), some, room.begin());
      negotiation_.filled(some);
      said += some;
      const Bytes output = negotiation_.take_output();
      output_.insert(output_.end(), output.begin(), output.end());
    }
    return said;
  }

  const Negotiation& negotiation() const { return negotiation_; }
  Bytes take_output() { return std::exchange(output_, {}); }
  /// The output so far as replies to options; ends with one of type 0 when it is anything else.
  std::vector<OptionReply> replies() {
    std::vector<OptionReply> found;
    Bytes rest = take_output();
    while (!rest.empty()) {
      const bool too_short = rest.size() < sizeof(OptionReplyHeader);
      const auto header = too_short ? OptionReplyHeader{.magic = 0} : from_wire<OptionReplyHeader>(rest);
      if (header.magic != kOptionReplyMagic || header.length > rest.size() - sizeof header) return found.push_back({}), found;
      const auto data = rest.begin() + sizeof header;
      found.push_back({static_cast<OptionType>(std::uint32_t{header.option}),
                       static_cast<OptionReplyType>(std::uint32_t{header.type}), Bytes(data, data + header.length)});
      rest.erase(rest.begin(), data + header.length);
    }
    return found;
  }
  std::vector<OptionReply> ask(OptionType type, const Bytes& data = {}) {
    say(option(type, data));
    return replies();
  }

 private:
  Negotiation negotiation_;
  std::size_t most_at_once_;
  Bytes output_;
};

}  // namespace nasbackup::nbd
