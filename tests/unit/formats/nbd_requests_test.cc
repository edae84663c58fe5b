// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// NBD requests and the replies to them, byte by byte as the specification has them.
#include "formats/nbd_requests.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/formats/nbd_conversation.h"

namespace nasbackup::nbd {
namespace {

constexpr std::uint64_t kSize = (1ull << 40) + 5;
constexpr std::uint64_t kWhole = 4u << 20;  // most_unfragmented
constexpr SessionFacts kStructured{kSize, true, true}, kSimple{kSize, false, false};

Request request_of(RequestType type, std::uint64_t offset, std::uint32_t length, std::uint16_t flags = 0) {
  const RequestHeader header{
      .flags = flags, .type = static_cast<std::uint16_t>(type), .cookie = 0x1122334455667788, .offset = offset, .length = length};
  const Bytes bytes = wire(header);
  return parse_request(std::span(bytes).first<sizeof(RequestHeader)>()).value();
}

void expect(const SessionFacts& session, const Request& request, Action action, ErrorValue error = ErrorValue::none) {
  const Verdict verdict = judge(request, session, kWhole);
  EXPECT_EQ(verdict.action, action);
  EXPECT_EQ(verdict.error, error);
}

void expect_refused(const SessionFacts& session, const Request& request, ErrorValue error) {
  expect(session, request, Action::refuse, error);
}

TEST(NbdRequests, ReadsTheMessageOfTheSpecification) {
  const Bytes bytes = joined(be32(0x25609513), be16(4), be16(7), wire(Wire64(99)), wire(Wire64(0x123456789a)), be32(4096));
  const auto request = parse_request(std::span(bytes).first<28>());
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->must_not_fragment());
  EXPECT_EQ(request->type, RequestType::block_status);
  EXPECT_EQ(request->cookie, 99u);
  EXPECT_EQ(request->range, (GuestRange{GuestOffset(0x123456789a), 4096}));
}

TEST(NbdRequests, DoesNotReadWhatIsNone) {
  Bytes bytes = wire(RequestHeader{});
  for (std::size_t i = 0; i < 4; ++i) {
    Bytes changed = bytes;
    changed[i] ^= std::byte{1};
    EXPECT_FALSE(parse_request(std::span(changed).first<28>()));
  }
  EXPECT_TRUE(parse_request(std::span(bytes).first<28>()));
}

TEST(NbdRequests, LetsReadsInsideTheExportPass) {
  for (const SessionFacts& session : {kStructured, kSimple}) {
    expect(session, request_of(RequestType::read, 0, 1), Action::read);
    expect(session, request_of(RequestType::read, kSize - 1, 1), Action::read);
    expect(session, request_of(RequestType::read, 7, kMostPayload), Action::read);
    expect(session, request_of(RequestType::read, 0, 512, kFlagFua), Action::read);
    expect_refused(session, request_of(RequestType::read, 0, 0), ErrorValue::invalid);
    expect_refused(session, request_of(RequestType::read, kSize - 1, 2), ErrorValue::invalid);
    expect_refused(session, request_of(RequestType::read, kSize, 1), ErrorValue::invalid);
    expect_refused(session, request_of(RequestType::read, ~0ull, 1), ErrorValue::invalid);
    expect_refused(session, request_of(RequestType::read, ~0ull - 4095, 0xffffffff), ErrorValue::invalid);
    for (const int bit : {1, 3, 4, 5, 6, 15})
      expect_refused(session, request_of(RequestType::read, 0, 512, static_cast<std::uint16_t>(1 << bit)), ErrorValue::invalid);
  }
}

TEST(NbdRequests, RefusesReadsThatAreTooLong) {
  expect_refused(kStructured, request_of(RequestType::read, 0, kMostPayload + 1), ErrorValue::overflow);
  expect_refused(kSimple, request_of(RequestType::read, 0, kMostPayload + 1), ErrorValue::invalid);
  expect(kStructured, request_of(RequestType::read, 0, kWhole, kFlagDf), Action::read);
  expect_refused(kStructured, request_of(RequestType::read, 0, kWhole + 1, kFlagDf), ErrorValue::overflow);
  expect_refused(kSimple, request_of(RequestType::read, 0, 512, kFlagDf), ErrorValue::invalid);
}

TEST(NbdRequests, PermitsNothingThatWrites) {
  for (const RequestType type : {RequestType::write, RequestType::trim, RequestType::write_zeroes})
    for (const std::uint32_t length : {0u, 512u, kMostPayload})
      for (const std::uint16_t flags : {0, 1, 2, 0xffff})
        expect_refused(kStructured, request_of(type, kSize, length, flags), ErrorValue::not_permitted);
  EXPECT_EQ(payload_of(request_of(RequestType::write, 0, 512)), 512u);
  EXPECT_EQ(payload_of(request_of(RequestType::write_zeroes, 0, 512)), 0u);
  EXPECT_EQ(payload_of(request_of(RequestType::read, 0, 512)), 0u);
  expect(kStructured, request_of(RequestType::write, 0, kMostPayload + 1), Action::disconnect);
}

TEST(NbdRequests, HasNothingToDoForFlushAndCache) {
  expect(kSimple, request_of(RequestType::flush, 0, 0), Action::succeed);
  expect_refused(kSimple, request_of(RequestType::flush, 0, 0, kFlagDf), ErrorValue::invalid);
  expect(kSimple, request_of(RequestType::cache, 0, 0xffffffff), Action::succeed);
  expect_refused(kSimple, request_of(RequestType::cache, kSize, 1), ErrorValue::invalid);
}

TEST(NbdRequests, TellsBlockStatusWhenTheContextWasSelected) {
  expect(kStructured, request_of(RequestType::block_status, 0, 0xffffffff), Action::block_status);
  expect(kStructured, request_of(RequestType::block_status, 0, 1, kFlagReqOne), Action::block_status);
  expect_refused(kSimple, request_of(RequestType::block_status, 0, 512), ErrorValue::invalid);
  expect_refused(kStructured, request_of(RequestType::block_status, 0, 0), ErrorValue::invalid);
  expect_refused(kStructured, request_of(RequestType::block_status, kSize - 4, 8), ErrorValue::invalid);
  expect_refused(kStructured, request_of(RequestType::block_status, 0, 512, kFlagDf), ErrorValue::invalid);
}

TEST(NbdRequests, LeavesAtDisconnectAndKnowsNoOtherType) {
  expect(kStructured, request_of(RequestType::disconnect, 1, 2, 3), Action::disconnect);
  for (const int type : {8, 9, 255, 65535})
    expect_refused(kStructured, request_of(static_cast<RequestType>(type), 0, 512), ErrorValue::invalid);
}

TEST(NbdRequests, NeverLetsARangeOutsideOfTheExportPass) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 200000; ++i) {
    const std::uint64_t near = kSize - 2 + random() % 4 - (random() % 2 == 0 ? 0 : random() % 0x100000000);
    const std::uint64_t offset = random() % 3 == 0 ? random() : near;
    const auto length = static_cast<std::uint32_t>(random() >> (random() % 32));
    const auto flags = static_cast<std::uint16_t>(random() % 16);
    const Request request = request_of(static_cast<RequestType>(random() % 9), offset, length, flags);
    const Verdict verdict = judge(request, random() % 2 == 0 ? kStructured : kSimple, kWhole);
    if (verdict.action != Action::read && verdict.action != Action::block_status) continue;
    ASSERT_NE(request.range.length, 0u);
    ASSERT_LE(request.range.start.value, kSize);
    ASSERT_LE(request.range.length, kSize - request.range.start.value);
    ASSERT_TRUE(verdict.action != Action::read || request.range.length <= kMostPayload);
  }
}

const Bytes kCookie = wire(Wire64(0x1122334455667788));

TEST(NbdReplies, AreSimpleForClientsThatKnowNoOther) {
  const Request request = request_of(RequestType::flush, 0, 0);
  EXPECT_EQ(success(request, kSimple), joined(be32(0x67446698), be32(0), kCookie));
  EXPECT_EQ(failure(request, kSimple, ErrorValue::not_permitted, "no"), joined(be32(0x67446698), be32(1), kCookie));
}

TEST(NbdReplies, AreChunksForTheOthers) {
  const Request request = request_of(RequestType::read, 4096, 8192);
  const auto header = [](std::uint16_t flags, std::uint16_t type, std::uint32_t length) {
    return joined(be32(0x668e33ef), be16(flags), be16(type), kCookie, be32(length));
  };
  EXPECT_EQ(success(request, kStructured), header(1, 0, 0));
  EXPECT_EQ(failure(request, kStructured, ErrorValue::io, "bad"),
            joined(header(1, 0x8001, 9), be32(5), be16(3), text_bytes("bad")));
  EXPECT_EQ(data_chunk(request, {GuestOffset(4096), 100}, false), joined(header(0, 1, 108), wire(Wire64(4096))));
  EXPECT_EQ(data_chunk(request, request.range, true), joined(header(1, 1, 8200), wire(Wire64(4096))));
  EXPECT_EQ(hole_chunk(request, {GuestOffset(8192), 512}, true), joined(header(1, 2, 12), wire(Wire64(8192)), be32(512)));
  EXPECT_EQ(failure_at(request, GuestOffset(5000), ErrorValue::io, ""),
            joined(header(1, 0x8002, 14), be32(5), be16(0), wire(Wire64(5000))));
}

TEST(NbdReplies, CutMessagesThatAreLongerThanAString) {
  const Bytes reply = failure(request_of(RequestType::read, 0, 1), kStructured, ErrorValue::io, std::string(100000, 'x'));
  EXPECT_EQ(reply.size(), sizeof(ErrorChunk) + kMostString);
  EXPECT_EQ(from_wire<ErrorChunk>(reply).message_length, kMostString);
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> descriptors_of(const ReplyHead& reply) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> found;
  for (std::size_t at = sizeof(BlockStatus); at < reply.size(); at += sizeof(BlockDescriptor)) {
    const auto one = from_wire<BlockDescriptor>(std::span(reply).subspan(at));
    found.emplace_back(one.length, one.status);
  }
  return found;
}

using Descriptors = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

TEST(NbdBlockStatus, JoinsNeighboursAndEndsWithTheRange) {
  BlockStatusReply status(request_of(RequestType::block_status, 1000, 10000));
  for (const auto& [length, kind] : Descriptors{{1000, 3}, {1000, 3}, {2000, 0}, {100, 3}}) status.add(length, kind);
  EXPECT_FALSE(status.complete());
  EXPECT_EQ(status.at(), GuestOffset(5100));
  status.add(1ull << 50, 0);
  EXPECT_TRUE(status.complete());
  const ReplyHead reply = status.finish(1);
  EXPECT_EQ(descriptors_of(reply), (Descriptors{{2000, 3}, {2000, 0}, {100, 3}, {5900, 0}}));
  EXPECT_EQ(Bytes(reply.begin(), reply.begin() + 24),
            joined(be32(0x668e33ef), be16(1), be16(5), kCookie, be32(4 + 4 * 8), be32(1)));
}

TEST(NbdBlockStatus, TellsOfOneExtentWhenAskedForOne) {
  BlockStatusReply status(request_of(RequestType::block_status, 0, 10000, kFlagReqOne));
  status.add(4096, 3);
  status.add(4096, 3);
  status.add(512, 0);
  EXPECT_TRUE(status.complete());
  EXPECT_EQ(descriptors_of(status.finish(1)), (Descriptors{{8192, 3}}));
}

TEST(NbdBlockStatus, HasRoomForTheLargestRequest) {
  BlockStatusReply status(request_of(RequestType::block_status, 0, 0xffffffff));
  status.add(0x80000000, 0);
  status.add(0x80000000, 0);
  EXPECT_EQ(descriptors_of(status.finish(1)), (Descriptors{{0xffffffff, 0}}));
}

TEST(NbdBlockStatus, StopsWhenItIsFull) {
  BlockStatusReply status(request_of(RequestType::block_status, 0, 0xffffffff));
  std::uint32_t added = 0;
  for (; !status.complete(); ++added) status.add(512, added % 2);
  EXPECT_EQ(added, BlockStatusReply::kMostDescriptors + 1);
  EXPECT_EQ(status.at(), GuestOffset(512 * BlockStatusReply::kMostDescriptors));
  EXPECT_EQ(status.finish(1).size(), BlockStatusReply::kMostBytes);
}

}  // namespace
}  // namespace nasbackup::nbd
