// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Progress as people and programs read it: a line with a bar, a plain line, a JSON object. Rates are those of the last seconds.
// Time is a parameter. One object, one thread.
#pragma once

#include <deque>
#include <string>

#include "engine/nasbackup.h"

namespace nasbackup::tools {

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
