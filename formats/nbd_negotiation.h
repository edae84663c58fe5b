// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The server's side of the NBD handshake (proto.md, "Fixed newstyle negotiation") without the socket: bytes in, bytes out, and at
// the end the export that the client has chosen. Whatever a client sends, it holds no more than kMostOptionData of it, and asks
// never for a byte that belongs to the transmission phase. Used by one thread at a time; nothing throws but std::bad_alloc.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/nbd_protocol.h"

namespace nasbackup::nbd {

/// What a client is told of an export. Names are told apart by every byte, and are not empty.
struct ExportFacts {
  std::string name;
  std::uint64_t size = 0;  ///< bytes
};

class Negotiation {
 public:
  enum class State { haggling, transmission, closed };

  /// An option with more data is read past and answered with TOO_BIG; one with more than kMostSkipped closes the connection.
  static constexpr std::uint32_t kMostOptionData = 64u << 10;
  static constexpr std::uint32_t kMostSkipped = 1u << 20;

  /// The first of `exports` also answers to the empty name. They outlive the negotiation.
  explicit Negotiation(std::span<const ExportFacts> exports);

  State state() const noexcept { return state_; }
  /// Where the next bytes of the client belong, at least one of them while haggling; valid until filled().
  std::span<std::byte> room() noexcept;
  /// So many bytes, at most what room() had, have come.
  void filled(std::size_t bytes);
  /// What is to be sent before more is read; also when the state is no longer haggling.
  std::vector<std::byte> take_output() noexcept { return std::exchange(output_, {}); }

  // What was agreed on, once the state is transmission.
  std::size_t chosen() const noexcept { return *chosen_; }  ///< index in `exports`
  bool structured_replies() const noexcept { return structured_; }
  bool block_status() const noexcept { return context_of_ == chosen_; }  ///< base:allocation was selected for this export
  static constexpr std::uint32_t kAllocationContext = 1;                 ///< its id

 private:
  enum class Part { client_flags, header, data, skipped };

  void expect(Part part, std::size_t bytes);
  void complete();
  void take_client_flags();
  void take_header();
  void take_option();
  void export_name(std::string_view name);
  void list();
  void info_or_go();
  void structured_reply();
  void meta_context();
  void add_infos(std::size_t index, bool name, bool block_size);

  std::optional<std::size_t> find_export(std::string_view name) const noexcept;
  std::uint16_t transmission_flags() const noexcept;
  std::span<const std::byte> data() const noexcept { return buffer_; }
  OptionType option() const noexcept { return static_cast<OptionType>(std::uint32_t{header_.option}); }
  void reply(OptionReplyType type, std::span<const std::byte> data = {});
  void refuse(OptionReplyType type, std::string_view says);

  std::span<const ExportFacts> exports_;
  State state_ = State::haggling;
  Part part_ = Part::client_flags;
  std::vector<std::byte> buffer_;  // of the part that is being read
  std::size_t have_ = 0;           // bytes of it that have come
  std::size_t to_skip_ = 0;
  OptionHeader header_;
  std::vector<std::byte> output_;

  bool fixed_ = false, no_zeroes_ = false, structured_ = false;
  std::optional<std::size_t> chosen_;
  std::optional<std::size_t> context_of_;  // the export for which base:allocation was selected last
};

}  // namespace nasbackup::nbd
