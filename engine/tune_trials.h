// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The trials of tune(): runs of the real pipeline over a sample of the source, into a hidden file that is removed at once, or
// into nothing. Used by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/sample_source.h"
#include "engine/nasbackup.h"
#include "engine/pipeline/build_pipeline.h"
#include "engine/pipeline/job_loop.h"
#include "engine/tune_search.h"

namespace nasbackup {

/// What is done with the data of a trial.
struct TuneRecipe {
  std::string compression;  ///< as TransferOptions has it; empty: none
  bool encrypted = false;
};

class TuneTrials {
 public:
  /// `options` outlives it. Throws Fault(usage) for a target that is no directory.
  TuneTrials(const TuneOptions& options, const JobControl& control);

  /// Where there is data, from the source's own extents; after `time` what was found so far must do. Throws Fault(source) when
  /// there is none.
  void look_around(std::chrono::nanoseconds time);
  std::uint64_t virtual_size() const noexcept { return size_; }
  /// The most that the source lets us open at once; 0: it has none.
  unsigned connections() const noexcept { return connections_; }
  /// As TuneReport has it.
  const std::string& page_cache() const noexcept { return page_cache_; }
  const std::string& target() const noexcept { return target_; }
  std::uint64_t sample_bytes() const noexcept { return bytes_of(sample_->ranges); }

  /// One run over the sample as it is.
  TuneTrial run(const TuneSettings& settings, const TuneRecipe& recipe);
  /// Chooses the sample so that a run takes about `time`, and returns that run. No run takes much more than twice of it.
  TuneTrial run_for(std::chrono::nanoseconds time, const TuneSettings& settings, const TuneRecipe& recipe);

 private:
  LifelineState& state() const noexcept { return control_.lifeline->state(); }
  asio::awaitable<OpenedSource> open_with_most(JobLoop& job);
  asio::awaitable<void> walk(JobLoop& job, std::int64_t until);
  void look_at_page_cache();
  void choose(std::uint64_t bytes, std::chrono::nanoseconds time);
  std::uint64_t largest_sample() const;
  TransferOptions transfer_options(const TuneSettings& settings, const TuneRecipe& recipe) const;

  const TuneOptions& options_;
  JobControl control_;
  std::string target_;
  std::uint64_t size_ = 0;
  std::vector<GuestRange> data_;
  unsigned connections_ = 0;
  std::string page_cache_ = "unknown";
  std::shared_ptr<const Sample> sample_;  // null: everything
};

}  // namespace nasbackup
