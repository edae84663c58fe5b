// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Progress as people and programs read it: a line with a bar, a plain line, a JSON object; and when a log tells of it. Rates are
// those of the last seconds. Time is a parameter. One object, one thread.
#pragma once

#include <deque>
#include <string>

#include "engine/nasbackup.h"

namespace nasbackup::tools {

/// When a log gets a line about how far a run is: at each 5 %, but not more often than every 30 s; and every 10 minutes, however
/// slow it is. So a run of N hours has 20 + 6 N lines at most.
class ProgressRemarks {
 public:
  /// Whether one is due; it counts as written then. `now` as below.
  bool due(const Progress& progress, double now);

 private:
  double told_at_ = 0;
  unsigned told_step_ = 0;
};

class ProgressMeter {
 public:
  /// `now`: seconds since the run began; never less than before.
  void sample(const Progress& progress, double now);

  /// For a terminal that is `width` columns wide; never wider than that.
  std::string bar(std::size_t width, bool colour) const;
  std::string line() const;
  /// One JSON object on one line.
  std::string json() const;

 private:
  struct Sample {
    double time = 0;
    Progress progress;
  };

  double rate(std::uint64_t Progress::*counter) const;
  double fraction() const;
  /// Seconds left; negative when nobody knows.
  double left() const;
  std::string rates() const;
  std::string numbers() const;

  std::deque<Sample> samples_;
};

}  // namespace nasbackup::tools
