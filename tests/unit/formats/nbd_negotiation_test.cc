// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The NBD handshake, with clients that keep to the protocol and clients that do not.
#include "formats/nbd_negotiation.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/formats/nbd_conversation.h"

namespace nasbackup::nbd {
namespace {

using State = Negotiation::State;

const std::vector<ExportFacts> kExports{{"first", 1u << 20}, {"second disk", 12345}};

/// Past the greeting.
Conversation begun(std::uint32_t flags = kFixedNewstyle | kNoZeroes) {
  Conversation conversation(kExports);
  conversation.take_output();
  conversation.say(client_flags(flags));
  return conversation;
}

std::vector<OptionReplyType> types_of(const std::vector<OptionReply>& replies) {
  std::vector<OptionReplyType> types;
  for (const OptionReply& reply : replies) types.push_back(reply.type);
  return types;
}

using Types = std::vector<OptionReplyType>;
constexpr auto kAck = OptionReplyType::ack, kInfo = OptionReplyType::info, kInvalid = OptionReplyType::invalid;

TEST(NbdNegotiation, GreetsFirst) {
  Conversation conversation(kExports);
  EXPECT_EQ(text_of(conversation.take_output()), std::string("NBDMAGICIHAVEOPT\0\3", 18));
}

TEST(NbdNegotiation, LeavesWhenAClientFlagIsUnknown) {
  EXPECT_EQ(begun(0).negotiation().state(), State::haggling);
  EXPECT_EQ(begun(4).negotiation().state(), State::closed);
  EXPECT_EQ(begun(0x80000003).negotiation().state(), State::closed);
}

TEST(NbdNegotiation, ListsEveryExport) {
  Conversation conversation = begun();
  const auto replies = conversation.ask(OptionType::list);
  ASSERT_EQ(types_of(replies), (Types{OptionReplyType::server, OptionReplyType::server, kAck}));
  EXPECT_EQ(replies[0].data, counted("first"));
  EXPECT_EQ(replies[1].data, counted("second disk"));
  EXPECT_EQ(types_of(conversation.ask(OptionType::list, be32(0))), Types{kInvalid});
}

TEST(NbdNegotiation, GoesToTheExportOfTheName) {
  for (const auto& [name, index] : {std::pair("first", 0u), {"", 0u}, {"second disk", 1u}}) {
    Conversation conversation = begun();
    const auto replies = conversation.ask(OptionType::go, info_data(name));
    ASSERT_EQ(types_of(replies), (Types{kInfo, kAck})) << name;
    const auto facts = from_wire<ExportInfo>(replies[0].data);
    EXPECT_EQ(facts.size, kExports[index].size);
    EXPECT_EQ(facts.transmission_flags, 1 | 2 | 4 | 8 | 256 | 1024);
    EXPECT_EQ(conversation.negotiation().state(), State::transmission);
    EXPECT_EQ(conversation.negotiation().chosen(), index);
  }
}

TEST(NbdNegotiation, GivesTheInformationThatIsAskedForAndStaysAfterInfo) {
  Conversation conversation = begun();
  const auto replies =
      conversation.ask(OptionType::info, info_data("", {InfoType::name, static_cast<InfoType>(77), InfoType::block_size}));
  ASSERT_EQ(types_of(replies), (Types{kInfo, kInfo, kInfo, kAck}));
  const auto sizes = from_wire<BlockSizeInfo>(replies[1].data);
  EXPECT_EQ(std::uint32_t{sizes.minimum}, 1u);
  EXPECT_EQ(std::uint32_t{sizes.maximum_payload}, 32u << 20);
  EXPECT_EQ(replies[2].data, joined(be16(1), text_bytes("first")));
  EXPECT_EQ(conversation.negotiation().state(), State::haggling);
}

TEST(NbdNegotiation, KnowsNoOtherName) {
  Conversation conversation = begun();
  for (const std::string_view name : {"third", "firs", "first ", "First", "second"})
    EXPECT_EQ(types_of(conversation.ask(OptionType::go, info_data(name))), Types{OptionReplyType::unknown}) << name;
  EXPECT_EQ(conversation.negotiation().state(), State::haggling);
}

TEST(NbdNegotiation, RefusesDataThatIsShorterOrLongerThanItSays) {
  const Bytes good_info = info_data("first", {InfoType::name}), good_meta = meta_data("first", {kBaseAllocation});
  Conversation conversation = begun();
  conversation.ask(OptionType::structured_reply);
  const auto first = [](const Bytes& bytes, std::size_t length) { return Bytes(bytes.data(), bytes.data() + length); };
  for (std::size_t cut = 0; cut < good_info.size(); ++cut)
    EXPECT_EQ(types_of(conversation.ask(OptionType::go, first(good_info, cut))), Types{kInvalid});
  for (std::size_t cut = 0; cut < good_meta.size(); ++cut)
    EXPECT_EQ(types_of(conversation.ask(OptionType::set_meta_context, first(good_meta, cut))), Types{kInvalid});
  EXPECT_EQ(types_of(conversation.ask(OptionType::info, joined(good_info, be16(0)))), Types{kInvalid});
  EXPECT_EQ(types_of(conversation.ask(OptionType::set_meta_context, joined(good_meta, be16(0)))), Types{kInvalid});
  EXPECT_EQ(types_of(conversation.ask(OptionType::go, joined(be32(0xffffffff), good_info))), Types{kInvalid});
  const Bytes many_queries = joined(counted("first"), be32(0xffffffff));
  EXPECT_EQ(types_of(conversation.ask(OptionType::list_meta_context, many_queries)), Types{kInvalid});
}

TEST(NbdNegotiation, KnowsNoNameLongerThanAStringMayBe) {
  const std::string name(kMostString + 1, 'n');
  Conversation conversation = begun();
  EXPECT_EQ(types_of(conversation.ask(OptionType::info, info_data(name))), Types{kInvalid});
  EXPECT_EQ(types_of(conversation.ask(OptionType::info, info_data(name.substr(1)))), Types{OptionReplyType::unknown});
  conversation.ask(OptionType::export_name, text_bytes(name));
  EXPECT_EQ(conversation.negotiation().state(), State::closed);
}

TEST(NbdNegotiation, SelectsBaseAllocationForTheExportThatIsChosen) {
  Conversation conversation = begun();
  EXPECT_EQ(types_of(conversation.ask(OptionType::set_meta_context, meta_data("first", {kBaseAllocation}))), Types{kInvalid});
  EXPECT_EQ(types_of(conversation.ask(OptionType::structured_reply)), Types{kAck});
  const auto replies =
      conversation.ask(OptionType::set_meta_context, meta_data("", {"qemu:x", kBaseAllocation, kBaseAllocation}));
  ASSERT_EQ(types_of(replies), (Types{OptionReplyType::meta_context, kAck}));
  EXPECT_EQ(replies[0].data, joined(be32(Negotiation::kAllocationContext), text_bytes(kBaseAllocation)));
  conversation.ask(OptionType::go, info_data("first"));
  EXPECT_TRUE(conversation.negotiation().structured_replies());
  EXPECT_TRUE(conversation.negotiation().block_status());
}

TEST(NbdNegotiation, SelectsNothingForAnotherExportNorByAWildcardNorWhenAskedAgain) {
  const std::vector<Bytes> last{
      meta_data("second disk", {kBaseAllocation}), meta_data("first", {kBaseNamespace}),   meta_data("first", {}),
      meta_data("first", {"base:allocation "}),    meta_data("nobody", {kBaseAllocation}), be32(9)};
  for (const Bytes& data : last) {
    Conversation conversation = begun();
    conversation.ask(OptionType::structured_reply);
    conversation.ask(OptionType::set_meta_context, meta_data("first", {kBaseAllocation}));
    conversation.ask(OptionType::set_meta_context, data);
    conversation.ask(OptionType::go, info_data("first"));
    ASSERT_EQ(conversation.negotiation().state(), State::transmission);
    EXPECT_FALSE(conversation.negotiation().block_status()) << text_of(data);
  }
}

TEST(NbdNegotiation, ListsContextsAlsoByWildcard) {
  Conversation conversation = begun();
  conversation.ask(OptionType::structured_reply);
  const Types listed{OptionReplyType::meta_context, kAck};
  for (const auto& queries : std::vector<std::vector<std::string_view>>{{}, {"base:"}, {"base:allocation"}, {"x-y:", "base:"}})
    EXPECT_EQ(types_of(conversation.ask(OptionType::list_meta_context, meta_data("", queries))), listed);
  EXPECT_EQ(types_of(conversation.ask(OptionType::list_meta_context, meta_data("", {"qemu:"}))), Types{kAck});
  conversation.ask(OptionType::go, info_data(""));
  EXPECT_FALSE(conversation.negotiation().block_status());
}

TEST(NbdNegotiation, SaysThatItMayNotFragmentOnlyWithStructuredReplies) {
  Conversation conversation = begun();
  conversation.ask(OptionType::structured_reply);
  const auto replies = conversation.ask(OptionType::info, info_data(""));
  EXPECT_TRUE(from_wire<ExportInfo>(replies[0].data).transmission_flags & kSendDf);
}

TEST(NbdNegotiation, AnswersToExportNameWithOrWithoutZeroes) {
  for (const bool zeroes : {false, true}) {
    Conversation conversation = begun(kFixedNewstyle | (zeroes ? 0 : kNoZeroes));
    conversation.say(option(OptionType::export_name, text_bytes("second disk")));
    const Bytes output = conversation.take_output();
    ASSERT_EQ(output.size(), sizeof(ExportNameReply) + (zeroes ? 124 : 0));
    EXPECT_EQ(from_wire<ExportNameReply>(output).size, 12345u);
    EXPECT_EQ(conversation.negotiation().state(), State::transmission);
  }
  Conversation conversation = begun();
  conversation.say(option(OptionType::export_name, text_bytes("nobody")));
  EXPECT_TRUE(conversation.take_output().empty());
  EXPECT_EQ(conversation.negotiation().state(), State::closed);
}

TEST(NbdNegotiation, TakesNothingButExportNameBeforeFixedNewstyle) {
  Conversation old = begun(0);
  old.say(option(OptionType::list));
  EXPECT_EQ(old.negotiation().state(), State::closed);
  Conversation good = begun(0);
  good.say(option(OptionType::export_name));
  EXPECT_EQ(good.negotiation().state(), State::transmission);
}

TEST(NbdNegotiation, SaysYesToAbortAndLeaves) {
  Conversation conversation = begun();
  EXPECT_EQ(types_of(conversation.ask(OptionType::abort, text_bytes("bye"))), Types{kAck});
  EXPECT_EQ(conversation.negotiation().state(), State::closed);
}

TEST(NbdNegotiation, DoesNotKnowOtherOptionsAndGoesOn) {
  Conversation conversation = begun();
  for (const std::uint32_t number : {0u, 4u, 5u, 11u, 12u, 0xffffffffu}) {
    const auto replies = conversation.ask(static_cast<OptionType>(number), text_bytes("data"));
    ASSERT_EQ(types_of(replies), Types{OptionReplyType::unsupported}) << number;
    EXPECT_EQ(static_cast<std::uint32_t>(replies[0].option), number);
  }
  EXPECT_EQ(types_of(conversation.ask(OptionType::go, info_data(""))), (Types{kInfo, kAck}));
}

TEST(NbdNegotiation, ReadsPastDataThatIsTooLong) {
  Conversation conversation = begun();
  const Bytes longest(Negotiation::kMostOptionData), longer(Negotiation::kMostOptionData + 1), most(Negotiation::kMostSkipped);
  EXPECT_EQ(types_of(conversation.ask(OptionType::go, longest)), Types{kInvalid});
  EXPECT_EQ(types_of(conversation.ask(OptionType::go, longer)), Types{OptionReplyType::too_big});
  EXPECT_EQ(types_of(conversation.ask(static_cast<OptionType>(99), most)), Types{OptionReplyType::too_big});
  EXPECT_EQ(types_of(conversation.ask(OptionType::list)).back(), kAck);
  conversation.say(wire(OptionHeader{kOptionMagic, 7u, Negotiation::kMostSkipped + 1}));
  EXPECT_EQ(conversation.negotiation().state(), State::closed);
}

TEST(NbdNegotiation, LeavesWhenAnOptionDoesNotBeginAsOne) {
  Conversation conversation = begun();
  conversation.say(wire(OptionHeader{kOptionMagic + 1, 3u, 0u}));
  EXPECT_EQ(conversation.negotiation().state(), State::closed);
}

TEST(NbdNegotiation, TakesNoByteOfTheTransmissionPhase) {
  const Bytes before = joined(client_flags(), option(OptionType::structured_reply), option(OptionType::go, info_data("")));
  for (const std::size_t at_once : {1u, 3u, 1000u}) {
    Conversation conversation(kExports, at_once);
    EXPECT_EQ(conversation.say(joined(before, wire(RequestHeader{}))), before.size());
    EXPECT_EQ(conversation.negotiation().state(), State::transmission);
  }
}

// Words that are nearly right, cut and changed anywhere, thousands of times: whatever comes, the negotiation asks for a bounded
// number of bytes, and says a bounded number for each that it takes.
TEST(NbdNegotiation, HoldsAgainstWhateverIsSaid) {
  std::mt19937 random(20240607);
  const std::vector<Bytes> words{client_flags(),
                                 option(OptionType::structured_reply),
                                 option(OptionType::list),
                                 option(OptionType::info, info_data("first", {InfoType::name, InfoType::block_size})),
                                 option(OptionType::set_meta_context, meta_data("first", {kBaseAllocation, kBaseNamespace})),
                                 option(OptionType::list_meta_context, meta_data("", {})),
                                 option(OptionType::go, info_data("second disk")),
                                 option(OptionType::export_name, text_bytes("first"))};
  unsigned ends[3]{};
  for (int round = 0; round < 20000; ++round) {
    Bytes said = random() % 8 == 0 ? Bytes{} : client_flags();
    for (unsigned i = random() % 8; i > 0; --i) said = joined(said, words[random() % words.size()]);
    for (unsigned i = random() % 4; i > 0 && !said.empty(); --i) said[random() % said.size()] = static_cast<std::byte>(random());
    if (random() % 4 == 0) said.resize(said.size() - random() % (said.size() + 1));
    Conversation conversation(kExports, 1 + random() % 64);
    const std::size_t taken = conversation.say(said);
    ASSERT_LE(conversation.take_output().size(), sizeof(Greeting) + 16 * taken + kReservedZeroes);
    const State state = conversation.negotiation().state();
    ASSERT_TRUE(state != State::haggling || taken == said.size());
    ++ends[static_cast<int>(state)];
  }
  for (const unsigned count : ends) EXPECT_GT(count, 1000u);
}

}  // namespace
}  // namespace nasbackup::nbd
