// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::tune: what is measured in which order, and what follows from it. A trial is in tune_trials.h, which settings are
// tried in tune_search.h.
#include <algorithm>
#include <array>
#include <optional>
#include <thread>

#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/io/nbd_source.h"
#include "engine/nasbackup.h"
#include "engine/translate_faults.h"
#include "engine/tune_search.h"
#include "engine/tune_trials.h"
#include "formats/compression.h"

namespace nasbackup {

namespace {

/// The budget in trials: about 16 of the search and nine of its final, four for the long one of the best, ten for the table
/// of codecs, some for connecting and for finding the data.
constexpr int kTrialsInBudget = 48;
constexpr int kLongTrial = 4;

constexpr std::array kCodecs{"zlib:fast", "zlib:default", "zlib:best", "zstd:fast", "zstd:default", "zstd:best"};

class Tuning {
 public:
  Tuning(const TuneOptions& options, const JobControl& control)
      : options_(options),
        asked_{options.compression, options.encrypt != nullptr},
        trial_time_(std::chrono::nanoseconds(options.budget) / kTrialsInBudget),
        trials_(options, control) {}

  TuneReport run() {
    trials_.look_around(4 * trial_time_);
    trials_.run_for(trial_time_, start(), asked_);
    report_.sample_bytes = trials_.sample_bytes();
    const TuneSettings best =
        search_settings(start(), choices(), [&](const TuneSettings& settings) { return speed_of(settings); });
    report_.best = trials_.run_for(kLongTrial * trial_time_, best, asked_);
    compare_codecs(best);
    conclude();
    return std::move(report_);
  }

 private:
  std::int64_t budget_ns() const noexcept { return std::chrono::nanoseconds(options_.budget).count(); }
  std::int64_t spent_ns() const noexcept { return monotonic_ns() - began_ns_; }

  TuneSettings start() const {
    const unsigned cpus = std::max(1u, std::thread::hardware_concurrency());
    const unsigned wanted = options_.connections == 0 ? NbdSource::kDefaultConnections : options_.connections;
    return {std::min(wanted, trials_.connections()), options_.item_size == 0 ? kDefaultItem : options_.item_size,
            options_.threads == 0 ? cpus : options_.threads};
  }

  TuneChoices choices() const {
    TuneChoices choices;
    for (unsigned number = 1; number <= trials_.connections(); number *= 2) choices.connections.push_back(number);
    for (std::uint64_t size = 128u << 10; size <= 4u << 20; size *= 2) choices.item_sizes.push_back(size);
    choices.threads = thread_choices(std::max(1u, std::thread::hardware_concurrency()));
    return choices;
  }

  // What comes after the search takes a third of the budget.
  std::optional<double> speed_of(const TuneSettings& settings) {
    if (spent_ns() > budget_ns() / 3 * 2) return std::nullopt;
    report_.trials.push_back(trials_.run(settings, asked_));
    return report_.trials.back().bytes_per_second;
  }

  // All with one sample, or their ratios could not be compared: as much as the last of them, the strongest, does in two trials.
  // Of a slow source or target the table is cut short, before it takes too long.
  void compare_codecs(const TuneSettings& best) {
    std::vector<TuneRecipe> recipes{{"", false}, {"", true}};
    for (const std::string codec : kCodecs)
      if (is_built_in(parse_compression(codec).codec)) recipes.push_back({codec, false});
    trials_.run_for(2 * trial_time_, best, recipes.back());
    for (const TuneRecipe& recipe : recipes)
      if (spent_ns() < budget_ns() / 2 * 3) report_.codecs.push_back(faster_of_two(best, recipe));
  }

  TuneTrial faster_of_two(const TuneSettings& settings, const TuneRecipe& recipe) {
    const TuneTrial first = trials_.run(settings, recipe), second = trials_.run(settings, recipe);
    return first.bytes_per_second > second.bytes_per_second ? first : second;
  }

  void conclude() {
    report_.source = location_for_people(options_.source);
    report_.target = trials_.target();
    report_.virtual_size = trials_.virtual_size();
    report_.page_cache = trials_.page_cache();
    report_.limit = busiest_stage(report_.best.stages);
    report_.arguments = arguments_of(report_.best);
    report_.seconds = static_cast<double>(spent_ns()) / 1e9;
  }

  const TuneOptions& options_;
  TuneRecipe asked_;
  std::chrono::nanoseconds trial_time_;
  std::int64_t began_ns_ = monotonic_ns();
  TuneTrials trials_;
  TuneReport report_;
};

}  // namespace

TuneReport tune(const TuneOptions& options, const JobControl& control) {
  return translate_faults([&] { return Tuning(options, control).run(); });
}

}  // namespace nasbackup
