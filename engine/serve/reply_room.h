// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A bounded amount of something (bytes of replies, places for connections), of which coroutines take their share and wait when
// there is too little left; who came first is served first, so that a large share is not kept waiting by small ones.
// Used on the loop's thread only; outlives its shares.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <utility>

#include "engine/io/wakeup.h"

namespace nasbackup {

class ReplyRoom {
 public:
  ReplyRoom(asio::any_io_executor loop, std::uint64_t total) : changed_(std::move(loop)), total_(total) {}
  ReplyRoom(const ReplyRoom&) = delete;
  ReplyRoom& operator=(const ReplyRoom&) = delete;

  /// What was taken; its end gives it back.
  class Share {
   public:
    Share() noexcept = default;
    Share(Share&& other) noexcept : room_(std::exchange(other.room_, nullptr)), amount_(other.amount_) {}
    Share& operator=(Share&& other) noexcept {
      if (this != &other) {
        give_back();
        room_ = std::exchange(other.room_, nullptr);
        amount_ = other.amount_;
      }
      return *this;
    }
    ~Share() { give_back(); }

    explicit operator bool() const noexcept { return room_ != nullptr; }

   private:
    friend ReplyRoom;
    Share(ReplyRoom* room, std::uint64_t amount) noexcept : room_(room), amount_(amount) {}
    void give_back() noexcept {
      if (room_ != nullptr) std::exchange(room_, nullptr)->return_share(amount_);
    }

    ReplyRoom* room_ = nullptr;
    std::uint64_t amount_ = 0;
  };

  /// At most `total`.
  asio::awaitable<Share> take(std::uint64_t amount) {
    assert(amount <= total_);
    const std::uint64_t ticket = last_ticket_++;
    while (ticket != next_served_ || amount > total_ - used_) co_await changed_.wait();
    ++next_served_;
    used_ += amount;
    if (next_served_ != last_ticket_) changed_.notify_all();
    co_return Share(this, amount);
  }
  std::uint64_t total() const noexcept { return total_; }

 private:
  void return_share(std::uint64_t amount) noexcept {
    assert(amount <= used_);
    used_ -= amount;
    changed_.notify_all();
  }

  Wakeup changed_;
  std::uint64_t total_;
  std::uint64_t used_ = 0;
  std::uint64_t last_ticket_ = 0, next_served_ = 0;
};

}  // namespace nasbackup
