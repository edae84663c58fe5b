// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Who waits for room, and in which order.
#include "engine/serve/reply_room.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

namespace nasbackup {
namespace {

class ReplyRoomTest : public ::testing::Test {
 protected:
  /// Somebody takes so much and keeps it in his slot.
  void take(std::size_t slot, std::uint64_t amount) {
    shares_.resize(std::max(shares_.size(), slot + 1));
    asio::co_spawn(loop_, taking(slot, amount), asio::detached);
    turn();
  }
  void give_back(std::size_t slot) {
    shares_[slot].reset();
    turn();
  }
  bool has(std::size_t slot) const { return shares_[slot].has_value(); }

 private:
  asio::awaitable<void> taking(std::size_t slot, std::uint64_t amount) {
    ReplyRoom::Share share = co_await room_.take(amount);
    shares_[slot] = std::move(share);
  }
  void turn() {
    loop_.restart();
    loop_.poll();
  }

  asio::io_context loop_;
  ReplyRoom room_{loop_.get_executor(), 100};
  std::vector<std::optional<ReplyRoom::Share>> shares_;
};

TEST_F(ReplyRoomTest, GivesUntilItIsFullAndAgainWhatComesBack) {
  take(0, 60);
  take(1, 40);
  take(2, 1);
  EXPECT_TRUE(has(0) && has(1));
  EXPECT_FALSE(has(2));
  give_back(1);
  EXPECT_TRUE(has(2));
}

TEST_F(ReplyRoomTest, LetsNobodySlipPastWhoWaitsForMore) {
  take(0, 60);
  take(1, 100);
  take(2, 1);
  EXPECT_FALSE(has(1) || has(2));
  give_back(0);
  EXPECT_TRUE(has(1));
  EXPECT_FALSE(has(2));
  give_back(1);
  EXPECT_TRUE(has(2));
}

TEST_F(ReplyRoomTest, CountsAShareThatMovesOnce) {
  take(0, 100);
  ReplyRoom::Share moved;
  EXPECT_FALSE(moved);
  give_back(0);
  take(1, 100);
  take(2, 100);
  EXPECT_TRUE(has(1));
  EXPECT_FALSE(has(2));
}

}  // namespace
}  // namespace nasbackup
