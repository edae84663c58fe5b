// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See guard.h.
#include "tools/guard.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace nasbackup::tools {

namespace {

constexpr char kDismissed = 'd';
constexpr char kTakeOver = 't';

/// A worker whose supervisor is gone stops by itself and frees the guest; one that hangs does not.
constexpr int kWorkerPatience = 10'000;  // ms

/// As long as a guest may still be there that somebody will want back.
constexpr std::chrono::hours kPatience{24};

/// What the supervisor says; 0 when it is gone without a word.
char next_order(int orders) noexcept {
  char order = 0;
  while (::read(orders, &order, 1) < 0 && errno == EINTR) {
  }
  return order;
}

void wait_for_worker(int alive) noexcept {
  pollfd one{alive, 0, 0};  // POLLHUP comes unasked
  while (::poll(&one, 1, kWorkerPatience) < 0 && errno == EINTR) {
  }
}

[[noreturn]] void stand_by(Lifeline& lifeline, int orders, int alive) noexcept {
  const char order = next_order(orders);
  if (order == kDismissed) ::_exit(0);
  if (order == 0) wait_for_worker(alive);
  lifeline.release_guest(kPatience);
  lifeline.abandon();
  ::_exit(0);
}

}  // namespace

Guard::Guard(Lifeline& lifeline, LogFile& log, std::span<const PassphrasePlaces* const> secrets) {
  Pipe orders, alive;
  pid_ = fork_process();
  if (pid_ == 0) {
    ::setsid();
    replace_stdio(-1);
    log.forget();
    forget_secrets(secrets);
    orders.write_end.close();
    alive.write_end.close();
    stand_by(lifeline, orders.read_end.get(), alive.read_end.get());
  }
  orders_ = std::move(orders.write_end);
  worker_end_ = std::move(alive.write_end);
}

void Guard::dismiss() noexcept {
  write_all(orders_.get(), {&kDismissed, 1});
  ended_within(pid_, 2000);
}

void Guard::take_over() noexcept { write_all(orders_.get(), {&kTakeOver, 1}); }

}  // namespace nasbackup::tools
