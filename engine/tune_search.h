// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which settings tune() tries next, and which it chooses: coordinate descent, one bound after the other, because the full product
// would take minutes. Pure; safe everywhere.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/nasbackup.h"

namespace nasbackup {

struct TuneSettings {
  unsigned connections = 0;
  std::uint64_t item_size = 0;
  unsigned threads = 0;

  friend constexpr auto operator<=>(const TuneSettings&, const TuneSettings&) = default;
};

/// The values of each bound; empty where there is no choice.
struct TuneChoices {
  std::vector<unsigned> connections;
  std::vector<std::uint64_t> item_sizes;
  std::vector<unsigned> threads;
};

/// What is only a little faster may be noise: the settings change for a gain beyond this.
inline constexpr double kWorthwhile = 1.05;

/// The fastest that were found meet again, because the fastest of many is often only the luckiest: so many, so often each in
/// turn.
inline constexpr std::size_t kFinalists = 3;
inline constexpr int kFinalRuns = 3;

/// Bytes per second of one trial; nothing: the time is up.
using MeasureSpeed = std::function<std::optional<double>(const TuneSettings&)>;

/// The best that was found, from `start` on. Goes round until nothing changes, at most twice; settings that come again are
/// measured again, interleaved with their rivals, and their best run counts. In the end the finalists meet.
TuneSettings search_settings(const TuneSettings& start, const TuneChoices& choices, const MeasureSpeed& measure);

/// Powers of two up to twice the CPUs, and their number itself.
std::vector<unsigned> thread_choices(unsigned cpus);

/// The settings of a trial for the command line: "--connections 4 --item-size 512K -j 2 -c=zstd".
std::string arguments_of(const TuneTrial& trial);

/// The stage that was busy for longest; empty when there is none.
std::string busiest_stage(const std::map<std::string, double>& stages);

}  // namespace nasbackup
