// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Coordinate descent; see tune_search.h.
#include "engine/tune_search.h"

#include <algorithm>

namespace nasbackup {

namespace {

constexpr int kRounds = 2;

class Search {
 public:
  Search(const TuneSettings& start, const MeasureSpeed& measure) : start_(start), best_(start), measure_(measure) {}

  /// Tries each value of one bound, the others as they are best so far. False when the time is up.
  template <class Value>
  bool along(Value TuneSettings::*bound, const std::vector<Value>& values) {
    if (values.empty()) return true;
    if (!try_one(best_)) return false;
    TuneSettings fastest = best_;
    for (const Value value : values) {
      TuneSettings candidate = best_;
      candidate.*bound = value;
      if (candidate == best_) continue;
      if (!try_one(candidate)) break;
      if (speed_[candidate] > speed_[fastest]) fastest = candidate;
    }
    if (speed_[fastest] > kWorthwhile * speed_[best_]) best_ = fastest;
    return !over_;
  }

  /// Of the finalists the one whose best run of these is the fastest; the start unless that is worthwhile.
  void decide() {
    const std::vector<TuneSettings> met = finalists();
    std::map<TuneSettings, double> speed;
    for (int run = 0; run < kFinalRuns && met.size() > 1; ++run)
      for (const TuneSettings& settings : met) {
        const std::optional<double> now = measure_(settings);
        if (!now) return;  // an unfair round decides nothing
        speed[settings] = std::max(speed[settings], *now);
      }
    const auto slower = [&](const TuneSettings& a, const TuneSettings& b) { return speed[a] < speed[b]; };
    best_ = *std::max_element(met.begin(), met.end(), slower);
    if (speed[best_] <= kWorthwhile * speed[start_]) best_ = start_;
  }

  const TuneSettings& best() const noexcept { return best_; }

 private:
  /// The start, the best so far, and then what was fastest.
  std::vector<TuneSettings> finalists() const {
    std::vector<TuneSettings> others;
    for (const auto& [settings, speed] : speed_)
      if (settings != start_ && settings != best_) others.push_back(settings);
    const auto faster = [this](const TuneSettings& a, const TuneSettings& b) { return speed_.at(a) > speed_.at(b); };
    std::sort(others.begin(), others.end(), faster);
    std::vector<TuneSettings> found{start_};
    if (best_ != start_) found.push_back(best_);
    found.insert(found.end(), others.begin(), others.end());
    found.resize(std::min(found.size(), kFinalists));
    return found;
  }

  bool try_one(const TuneSettings& settings) {
    const std::optional<double> speed = measure_(settings);
    over_ = !speed;
    if (speed) speed_[settings] = std::max(speed_[settings], *speed);
    return !over_;
  }

  const TuneSettings start_;
  TuneSettings best_;
  const MeasureSpeed& measure_;
  std::map<TuneSettings, double> speed_;
  bool over_ = false;
};

}  // namespace

TuneSettings search_settings(const TuneSettings& start, const TuneChoices& choices, const MeasureSpeed& measure) {
  Search search(start, measure);
  for (int round = 0; round < kRounds; ++round) {
    const TuneSettings before = search.best();
    const bool goes_on = search.along(&TuneSettings::threads, choices.threads) &&
                         search.along(&TuneSettings::item_size, choices.item_sizes) &&
                         search.along(&TuneSettings::connections, choices.connections);
    if (!goes_on || search.best() == before) break;
  }
  search.decide();
  return search.best();
}

std::vector<unsigned> thread_choices(unsigned cpus) {
  std::vector<unsigned> choices{cpus};
  for (unsigned threads = 1; threads <= 2 * cpus; threads *= 2)
    if (threads != cpus) choices.push_back(threads);
  std::sort(choices.begin(), choices.end());
  return choices;
}

std::string arguments_of(const TuneTrial& trial) {
  const std::uint64_t kib = trial.item_size >> 10;
  std::string words = trial.connections == 0 ? "" : "--connections " + std::to_string(trial.connections) + " ";
  words += "--item-size " + (kib % 1024 == 0 ? std::to_string(kib / 1024) + "M" : std::to_string(kib) + "K");
  words += " -j " + std::to_string(trial.threads);
  if (!trial.compression.empty()) words += " -c=" + trial.compression;
  return words + (trial.encrypted ? " -e FILE" : "");
}

std::string busiest_stage(const std::map<std::string, double>& stages) {
  const auto busier = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto found = std::max_element(stages.begin(), stages.end(), busier);
  return found == stages.end() ? std::string() : found->first;
}

}  // namespace nasbackup
