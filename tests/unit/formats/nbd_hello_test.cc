// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The handshake said in one piece, with our own server as the other side, and with what is no server.
#include "formats/nbd_hello.h"

#include <gtest/gtest.h>

#include "formats/format_error.h"
#include "tests/unit/formats/nbd_conversation.h"

namespace nasbackup::nbd {
namespace {

const std::vector<ExportFacts> kExports{{"vda", 1u << 20}};
const std::vector<std::string> kContexts{"base:allocation", "qemu:dirty-bitmap:b"};

/// All that the server says to a hello, its greeting included.
Bytes answer_to(const Bytes& hello, Negotiation::State ends = Negotiation::State::transmission) {
  Conversation conversation(kExports);
  EXPECT_EQ(conversation.say(hello), hello.size());
  EXPECT_EQ(conversation.negotiation().state(), ends);
  return conversation.take_output();
}

TEST(NbdHello, BringsAServerToTheTransmissionWithoutAQuestion) {
  Conversation conversation(kExports);
  const Bytes hello = client_hello("vda", kContexts);
  EXPECT_EQ(conversation.say(hello), hello.size());
  EXPECT_EQ(conversation.negotiation().state(), Negotiation::State::transmission);
  EXPECT_TRUE(conversation.negotiation().structured_replies());
  EXPECT_TRUE(conversation.negotiation().block_status());
}

TEST(NbdHello, KnowsTheEndOfTheAnswerHoweverItComes) {
  const Bytes answer = answer_to(client_hello("vda", kContexts));
  HelloAnswer together;
  together.take(answer);
  EXPECT_TRUE(together.whole());
  HelloAnswer single;
  for (const std::byte& byte : answer) {
    EXPECT_FALSE(single.whole());
    single.take({&byte, 1});
  }
  EXPECT_TRUE(single.whole());
  EXPECT_TRUE(std::ranges::equal(single.bytes(), answer));
}

TEST(NbdHello, EndsWithARefusalToo) {
  HelloAnswer answer;
  answer.take(answer_to(client_hello("vdz", kContexts), Negotiation::State::haggling));
  EXPECT_TRUE(answer.whole());
}

TEST(NbdHello, RefusesWhatIsNoAnswer) {
  const Bytes answer = answer_to(client_hello("vda", kContexts));
  EXPECT_THROW(HelloAnswer().take(text_bytes("NBDMAGICno newstyle")), FormatError);
  EXPECT_THROW(HelloAnswer().take(joined(answer, text_bytes("x"))), FormatError);
  Bytes torn = answer;
  torn[sizeof(Greeting)] = std::byte{0xff};
  EXPECT_THROW(HelloAnswer().take(torn), FormatError);
  const OptionReplyHeader endless{kOptionReplyMagic, 10, 4, 0xffffffff};
  HelloAnswer waits;
  waits.take(joined(wire(Greeting{}), wire(endless)));
  EXPECT_FALSE(waits.whole());
  EXPECT_THROW(waits.take(Bytes(HelloAnswer::kMost)), FormatError);
}

}  // namespace
}  // namespace nasbackup::nbd
