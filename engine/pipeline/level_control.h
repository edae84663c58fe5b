// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// `auto`: how strong compression may be so that it is not the slowest stage. Each rung of the ladder has a speed, learnt while
// it is used; the strongest rung whose threads would keep up with what the other stages deliver is taken. Time is a parameter.
// Safe from several threads at once.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

namespace nasbackup {

class LevelControl {
 public:
  /// `costs`: nanoseconds for a MiB on one thread, of each rung from fast to strong: a first guess, only their ratios must be
  /// near.
  LevelControl(std::vector<double> costs, unsigned threads, std::int64_t now_ns);

  /// The rung to use now.
  std::size_t rung() const;
  /// `bytes` were encoded on `rung` in `spent_ns` of one thread.
  void note(std::size_t rung, std::uint64_t bytes, std::int64_t spent_ns, std::int64_t now_ns);
  /// Bytes encoded on each rung.
  std::vector<std::uint64_t> bytes_by_rung() const;

 private:
  void decide(std::int64_t now_ns);

  mutable std::mutex mutex_;  // guards all below
  std::vector<double> costs_;
  unsigned threads_;
  std::vector<std::uint64_t> bytes_;
  std::size_t rung_ = 0;
  double correction_ = 1;  // this machine's costs against the first guess
  std::int64_t window_began_;
  std::uint64_t window_bytes_ = 0;
  std::int64_t window_spent_ = 0;
  double window_guess_ = 0;  // what the first guess says that the window's work costs
};

}  // namespace nasbackup
