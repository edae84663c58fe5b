// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The handshake; see nbd_negotiation.h.
#include "formats/nbd_negotiation.h"

#include <algorithm>
#include <cassert>

namespace nasbackup::nbd {

namespace {

constexpr std::size_t kSkippedAtOnce = 4096;

std::string_view text_of(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> bytes_of(std::string_view text) noexcept { return std::as_bytes(std::span(text)); }

/// Takes the data of an option apart; nothing where it is shorter than it says.
class DataReader {
 public:
  explicit DataReader(std::span<const std::byte> data) noexcept : rest_(data) {}

  template <class Integer>
  std::optional<Integer> integer() noexcept {
    if (rest_.size() < sizeof(Integer)) return std::nullopt;
    const auto value = from_wire<WireInteger<Integer>>(rest_);
    rest_ = rest_.subspan(sizeof(Integer));
    return value;
  }
  std::optional<std::string_view> text(std::optional<std::uint32_t> length) noexcept {
    if (!length || *length > rest_.size() || *length > kMostString) return std::nullopt;
    const std::string_view found = text_of(rest_.first(*length));
    rest_ = rest_.subspan(*length);
    return found;
  }
  /// A string with its length in front.
  std::optional<std::string_view> counted_text() noexcept { return text(integer<std::uint32_t>()); }
  bool at_end() const noexcept { return rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
};

/// "NBD_OPT_INFO and NBD_OPT_GO".
struct InfoRequest {
  std::string_view name;
  bool wants_name = false, wants_block_size = false;
};

std::optional<InfoRequest> parse_info_request(std::span<const std::byte> data) noexcept {
  DataReader reader(data);
  const auto name = reader.counted_text();
  const auto count = name ? reader.integer<std::uint16_t>() : std::nullopt;
  if (!count) return std::nullopt;
  InfoRequest request{*name};
  for (unsigned i = 0; i < *count; ++i) {
    const auto type = reader.integer<std::uint16_t>();
    if (!type) return std::nullopt;
    request.wants_name |= *type == static_cast<std::uint16_t>(InfoType::name);
    request.wants_block_size |= *type == static_cast<std::uint16_t>(InfoType::block_size);
  }
  return reader.at_end() ? std::optional(request) : std::nullopt;
}

/// "NBD_OPT_LIST_META_CONTEXT" and "NBD_OPT_SET_META_CONTEXT"; of the queries only what the one context needs.
struct MetaQuery {
  std::string_view name;
  bool empty = true;  ///< there were no queries
  bool allocation = false;
  bool wildcard = false;
};

std::optional<MetaQuery> parse_meta_query(std::span<const std::byte> data) noexcept {
  DataReader reader(data);
  const auto name = reader.counted_text();
  const auto count = name ? reader.integer<std::uint32_t>() : std::nullopt;
  if (!count) return std::nullopt;
  MetaQuery query{*name};
  // Each takes at least four bytes, so that a large count ends with the data.
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto text = reader.counted_text();
    if (!text) return std::nullopt;
    query.empty = false;
    query.allocation |= *text == kBaseAllocation;
    query.wildcard |= *text == kBaseNamespace;
  }
  return reader.at_end() ? std::optional(query) : std::nullopt;
}

}  // namespace

Negotiation::Negotiation(std::span<const ExportFacts> exports) : exports_(exports) {
  assert(!exports.empty());
  append_wire(output_, Greeting{});
  expect(Part::client_flags, sizeof(Wire32));
}

std::span<std::byte> Negotiation::room() noexcept { return std::span(buffer_).subspan(have_); }

void Negotiation::filled(std::size_t bytes) {
  assert(state_ == State::haggling && bytes <= buffer_.size() - have_);
  have_ += bytes;
  while (state_ == State::haggling && have_ == buffer_.size()) complete();
}

void Negotiation::expect(Part part, std::size_t bytes) {
  part_ = part;
  buffer_.resize(bytes);
  have_ = 0;
}

void Negotiation::complete() {
  switch (part_) {
    case Part::client_flags:
      return take_client_flags();
    case Part::header:
      return take_header();
    case Part::skipped:
      to_skip_ -= buffer_.size();
      if (to_skip_ != 0) return expect(Part::skipped, std::min(to_skip_, kSkippedAtOnce));
      refuse(OptionReplyType::too_big, "the option's data is too long");
      return expect(Part::header, sizeof(OptionHeader));
    case Part::data:
      take_option();
      if (state_ == State::haggling) expect(Part::header, sizeof(OptionHeader));
  }
}

// "Client flags": the connection must be dropped when one is unknown.
void Negotiation::take_client_flags() {
  const std::uint32_t flags = from_wire<Wire32>(buffer_);
  fixed_ = (flags & kFixedNewstyle) != 0;
  no_zeroes_ = (flags & kNoZeroes) != 0;
  if ((flags & ~std::uint32_t{kFixedNewstyle | kNoZeroes}) != 0)
    state_ = State::closed;
  else
    expect(Part::header, sizeof(OptionHeader));
}

// Before fixed newstyle there was one option, and no way to refuse it but to hang up.
void Negotiation::take_header() {
  header_ = from_wire<OptionHeader>(buffer_);
  const std::uint32_t length = header_.length;
  const bool one_option = !fixed_ || option() == OptionType::export_name;
  if (header_.magic != kOptionMagic || length > kMostSkipped || (!fixed_ && option() != OptionType::export_name) ||
      (one_option && length > kMostString)) {
    state_ = State::closed;
  } else if (length > kMostOptionData) {
    to_skip_ = length;
    expect(Part::skipped, kSkippedAtOnce);
  } else {
    expect(Part::data, length);
  }
}

void Negotiation::take_option() {
  switch (option()) {
    case OptionType::export_name:
      return export_name(text_of(data()));
    case OptionType::abort:
      reply(OptionReplyType::ack);
      state_ = State::closed;
      return;
    case OptionType::list:
      return list();
    case OptionType::info:
    case OptionType::go:
      return info_or_go();
    case OptionType::structured_reply:
      return structured_reply();
    case OptionType::list_meta_context:
    case OptionType::set_meta_context:
      return meta_context();
    case OptionType::starttls:  // "NOTLS mode"
      break;
  }
  refuse(OptionReplyType::unsupported, "this server does not know the option");
}

// There is no way to say that the export is unknown.
void Negotiation::export_name(std::string_view name) {
  chosen_ = find_export(name);
  if (!chosen_) {
    state_ = State::closed;
    return;
  }
  append_wire(output_, ExportNameReply{exports_[*chosen_].size, transmission_flags()});
  if (!no_zeroes_) output_.resize(output_.size() + kReservedZeroes);
  state_ = State::transmission;
}

void Negotiation::list() {
  if (!data().empty()) return refuse(OptionReplyType::invalid, "LIST takes no data");
  for (const ExportFacts& exported : exports_) {
    std::vector<std::byte> server;
    append_wire(server, Wire32(static_cast<std::uint32_t>(exported.name.size())));
    append_bytes(server, bytes_of(exported.name));
    reply(OptionReplyType::server, server);
  }
  reply(OptionReplyType::ack);
}

void Negotiation::info_or_go() {
  const auto request = parse_info_request(data());
  if (!request) return refuse(OptionReplyType::invalid, "the option's data is no name and list of information");
  const auto found = find_export(request->name);
  if (!found) return refuse(OptionReplyType::unknown, "there is no export of that name");
  add_infos(*found, request->wants_name, request->wants_block_size);
  reply(OptionReplyType::ack);
  if (option() != OptionType::go) return;
  chosen_ = found;
  state_ = State::transmission;
}

void Negotiation::add_infos(std::size_t index, bool name, bool block_size) {
  const ExportFacts& exported = exports_[index];
  const ExportInfo facts{.size = exported.size, .transmission_flags = transmission_flags()};
  reply(OptionReplyType::info, std::as_bytes(std::span(&facts, 1)));
  if (block_size) {
    const BlockSizeInfo sizes{.minimum = 1, .preferred = kPreferredBlock, .maximum_payload = kMostPayload};
    reply(OptionReplyType::info, std::as_bytes(std::span(&sizes, 1)));
  }
  if (!name) return;
  std::vector<std::byte> canonical;
  append_wire(canonical, Wire16(static_cast<std::uint16_t>(InfoType::name)));
  append_bytes(canonical, bytes_of(exported.name));
  reply(OptionReplyType::info, canonical);
}

void Negotiation::structured_reply() {
  if (!data().empty()) return refuse(OptionReplyType::invalid, "STRUCTURED_REPLY takes no data");
  structured_ = true;
  reply(OptionReplyType::ack);
}

// SET replaces what was selected before, also when it fails. It never selects by a wildcard.
void Negotiation::meta_context() {
  const bool set = option() == OptionType::set_meta_context;
  if (set) context_of_.reset();
  if (!structured_) return refuse(OptionReplyType::invalid, "structured replies must be agreed on first");
  const auto query = parse_meta_query(data());
  if (!query) return refuse(OptionReplyType::invalid, "the option's data is no name and list of queries");
  const auto found = find_export(query->name);
  if (!found) return refuse(OptionReplyType::unknown, "there is no export of that name");
  if (query->allocation || (!set && (query->empty || query->wildcard))) {
    std::vector<std::byte> context;
    append_wire(context, Wire32(set ? kAllocationContext : 0));
    append_bytes(context, bytes_of(kBaseAllocation));
    reply(OptionReplyType::meta_context, context);
    if (set) context_of_ = found;
  }
  reply(OptionReplyType::ack);
}

std::optional<std::size_t> Negotiation::find_export(std::string_view name) const noexcept {
  if (name.empty()) return 0;
  const auto found = std::ranges::find(exports_, name, &ExportFacts::name);
  if (found == exports_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - exports_.begin());
}

std::uint16_t Negotiation::transmission_flags() const noexcept {
  return kHasFlags | kReadOnly | kSendFlush | kSendFua | kCanMultiConn | kSendCache | (structured_ ? kSendDf : 0);
}

void Negotiation::reply(OptionReplyType type, std::span<const std::byte> data) {
  const OptionReplyHeader header{
      .option = header_.option, .type = static_cast<std::uint32_t>(type), .length = static_cast<std::uint32_t>(data.size())};
  append_wire(output_, header);
  append_bytes(output_, data);
}

void Negotiation::refuse(OptionReplyType type, std::string_view says) { reply(type, bytes_of(says)); }

}  // namespace nasbackup::nbd
