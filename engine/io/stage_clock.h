// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// For how long a stage was busy: the time during which at least one piece of work was inside it. Used by one thread at a time.
#pragma once

#include "engine/io/lifeline_state.h"

namespace nasbackup {

class StageClock {
 public:
  /// Inside the stage for as long as it lives.
  class Visit {
   public:
    explicit Visit(StageClock& clock) noexcept : clock_(clock) {
      if (clock_.inside_++ == 0) clock_.entered_ns_ = monotonic_ns();
    }
    ~Visit() {
      if (--clock_.inside_ == 0) clock_.busy_ns_ += monotonic_ns() - clock_.entered_ns_;
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    StageClock& clock_;
  };

  double seconds() const noexcept { return static_cast<double>(busy_ns_) / 1e9; }

 private:
  unsigned inside_ = 0;
  std::int64_t entered_ns_ = 0;
  std::int64_t busy_ns_ = 0;
};

}  // namespace nasbackup
