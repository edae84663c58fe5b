// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Things that one thread at a time may use and that are dear to make: a lease is one that nobody uses just now, so there are as
// many as are in use at once. Safe from any thread.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace nasbackup {

template <class Thing>
class IdlePool {
 public:
  /// A thing of the pool for as long as it lives. The pool outlives it.
  class Lease {
   public:
    ~Lease() { pool_->put_back(std::move(thing_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Thing& operator*() const noexcept { return *thing_; }
    Thing* operator->() const noexcept { return thing_.get(); }

   private:
    friend class IdlePool;
    Lease(IdlePool* pool, std::unique_ptr<Thing> thing) noexcept : pool_(pool), thing_(std::move(thing)) {}
    IdlePool* pool_;
    std::unique_ptr<Thing> thing_;
  };

  /// `make` is called when none is idle.
  template <class Make>
  Lease lease(Make&& make) {
    std::unique_ptr<Thing> thing = take();
    return Lease(this, thing ? std::move(thing) : make());
  }

 private:
  std::unique_ptr<Thing> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return nullptr;
    std::unique_ptr<Thing> thing = std::move(idle_.back());
    idle_.pop_back();
    return thing;
  }
  void put_back(std::unique_ptr<Thing> thing) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(thing));
  }

  std::mutex mutex_;  // guards idle_
  std::vector<std::unique_ptr<Thing>> idle_;
};

}  // namespace nasbackup
