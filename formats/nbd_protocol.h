// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What travels between an NBD client and a server: messages, marks, limits. Plain data.
// Source: "The NBD protocol" (github.com/NetworkBlockDevice/nbd, doc/proto.md, "the specification"); each definition names its
// section there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/wire_integer.h"

namespace nasbackup::nbd {

// ---- limits --------------------------------------------------------------------------------------------------------------

/// "Conventions": no string is longer.
inline constexpr std::size_t kMostString = 4096;
/// "Size constraints": what every server should take, and every client may count on.
inline constexpr std::uint32_t kMostPayload = 32u << 20;
inline constexpr std::uint32_t kPreferredBlock = 4096;

// ---- handshake -----------------------------------------------------------------------------------------------------------

inline constexpr std::uint64_t kInitPassword = 0x4e42444d41474943;  ///< NBDMAGIC
inline constexpr std::uint64_t kOptionMagic = 0x49484156454F5054;   ///< IHAVEOPT
inline constexpr std::uint64_t kOptionReplyMagic = 0x3e889045565a9;

/// "Handshake flags" of the server, and the "client flags", which have the same bits.
inline constexpr std::uint16_t kFixedNewstyle = 1, kNoZeroes = 2;

/// "Newstyle negotiation".
struct Greeting {
  Wire64 password = kInitPassword;
  Wire64 magic = kOptionMagic;
  Wire16 handshake_flags = kFixedNewstyle | kNoZeroes;
};
static_assert(sizeof(Greeting) == 18);

struct OptionHeader {
  Wire64 magic;
  Wire32 option;
  Wire32 length;
};
static_assert(sizeof(OptionHeader) == 16);

/// "Fixed newstyle negotiation".
struct OptionReplyHeader {
  Wire64 magic = kOptionReplyMagic;
  Wire32 option;
  Wire32 type;
  Wire32 length;
};
static_assert(sizeof(OptionReplyHeader) == 20);

/// The answer to EXPORT_NAME; behind it kReservedZeroes, unless the client can do without.
struct ExportNameReply {
  Wire64 size;
  Wire16 transmission_flags;
};
static_assert(sizeof(ExportNameReply) == 10);
inline constexpr std::size_t kReservedZeroes = 124;

/// "Option types".
enum class OptionType : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
};

/// "Option reply types".
enum class OptionReplyType : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  unsupported = 0x80000001,
  invalid = 0x80000003,
  unknown = 0x80000006,
  too_big = 0x80000009,
};

/// "NBD_REP_INFO".
enum class InfoType : std::uint16_t { exported = 0, name = 1, description = 2, block_size = 3 };

struct ExportInfo {
  Wire16 type = static_cast<std::uint16_t>(InfoType::exported);
  Wire64 size;
  Wire16 transmission_flags;
};
static_assert(sizeof(ExportInfo) == 12);

struct BlockSizeInfo {
  Wire16 type = static_cast<std::uint16_t>(InfoType::block_size);
  Wire32 minimum;
  Wire32 preferred;
  Wire32 maximum_payload;
};
static_assert(sizeof(BlockSizeInfo) == 14);

/// "Transmission flags", those that a server which only reads has a use for.
inline constexpr std::uint16_t kHasFlags = 1 << 0, kReadOnly = 1 << 1, kSendFlush = 1 << 2, kSendFua = 1 << 3, kSendDf = 1 << 7,
                               kCanMultiConn = 1 << 8, kSendCache = 1 << 10;

/// "The base: metadata namespace", and its one context with the bits of its status.
inline constexpr char kBaseNamespace[] = "base:";
inline constexpr char kBaseAllocation[] = "base:allocation";
inline constexpr std::uint32_t kStateHole = 1, kStateZero = 2;

// ---- transmission --------------------------------------------------------------------------------------------------------

inline constexpr std::uint32_t kRequestMagic = 0x25609513;
inline constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr std::uint32_t kStructuredReplyMagic = 0x668e33ef;

/// "Request message".
struct RequestHeader {
  Wire32 magic = kRequestMagic;
  Wire16 flags;
  Wire16 type;
  Wire64 cookie;
  Wire64 offset;
  Wire32 length;
};
static_assert(sizeof(RequestHeader) == 28);

/// "Request types".
enum class RequestType : std::uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

/// "Command flags".
inline constexpr std::uint16_t kFlagFua = 1 << 0, kFlagNoHole = 1 << 1, kFlagDf = 1 << 2, kFlagReqOne = 1 << 3;

/// "Simple reply message".
struct SimpleReplyHeader {
  Wire32 magic = kSimpleReplyMagic;
  Wire32 error;
  Wire64 cookie;
};
static_assert(sizeof(SimpleReplyHeader) == 16);

/// "Structured reply chunk message".
struct ChunkHeader {
  Wire32 magic = kStructuredReplyMagic;
  Wire16 flags;
  Wire16 type;
  Wire64 cookie;
  Wire32 length;  ///< of what follows
};
static_assert(sizeof(ChunkHeader) == 20);
inline constexpr std::uint16_t kReplyDone = 1;  ///< "Structured reply flags"

/// "Structured reply types".
enum class ChunkType : std::uint16_t {
  none = 0,
  offset_data = 1,
  offset_hole = 2,
  block_status = 5,
  error = 0x8001,
  error_offset = 0x8002,
};

struct OffsetData {
  ChunkHeader header;
  Wire64 offset;
};
static_assert(sizeof(OffsetData) == 28);

struct OffsetHole {
  ChunkHeader header;
  Wire64 offset;
  Wire32 size;
};
static_assert(sizeof(OffsetHole) == 32);

/// A message of `message_length` bytes follows, and with error_offset the offset.
struct ErrorChunk {
  ChunkHeader header;
  Wire32 error;
  Wire16 message_length;
};
static_assert(sizeof(ErrorChunk) == 26);

struct BlockStatus {
  ChunkHeader header;
  Wire32 context;
};
static_assert(sizeof(BlockStatus) == 24);

struct BlockDescriptor {
  Wire32 length;
  Wire32 status;
};
static_assert(sizeof(BlockDescriptor) == 8);

/// "Error values".
enum class ErrorValue : std::uint32_t {
  none = 0,
  not_permitted = 1,
  io = 5,
  no_memory = 12,
  invalid = 22,
  overflow = 75,
  shutdown = 108,
};

}  // namespace nasbackup::nbd
