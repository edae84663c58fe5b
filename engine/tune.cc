// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::tune: short runs of the real pipeline over a sample of the source, and what follows from them. Which settings are
// tried is in tune_search.h.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <optional>
#include <thread>

#include "crypto/random_source.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/nbd_connection.h"
#include "engine/io/new_file.h"
#include "engine/io/page_cache.h"
#include "engine/nasbackup.h"
#include "engine/set/run_lock.h"
#include "engine/transfer.h"
#include "engine/translate_faults.h"
#include "engine/tune_search.h"

namespace nasbackup {

namespace {

/// The budget in trials: about 15 of the search, eight of the table of codecs, four for the long one of the best, some for
/// connecting and for finding the data.
constexpr int kTrialsInBudget = 32;
constexpr int kLongTrial = 4;
/// Of a trial that gets slow the sample is cut short after so many times what a trial should take.
constexpr int kPatience = 2;
/// What one trial reads and writes at most: a target gets no more than this at once.
constexpr std::uint64_t kLargestSample = 1u << 30;
constexpr std::uint64_t kSmallestSample = 16u << 20;
/// An image that is finely broken up is not walked to its end.
constexpr std::size_t kMostExtents = 1u << 20;
constexpr double kWarm = 0.5;
/// Only the cost of ciphering counts; the header of a trial guards nothing.
constexpr std::uint32_t kTrialIterations = 1000;

constexpr std::array kCodecs{"zlib:fast", "zlib:default", "zlib:best", "zstd:fast", "zstd:default", "zstd:best"};

/// What is known of the source before the first trial.
struct Ground {
  std::uint64_t size = 0;
  std::vector<GuestRange> data;
};

std::shared_ptr<const Passphrase> trial_passphrase() {
  std::array<std::byte, 32> bytes{};
  crypto::system_random().fill(bytes);
  return Passphrase::from_bytes(bytes.data(), bytes.size());
}

class Tuning {
 public:
  Tuning(const TuneOptions& options, const JobControl& control)
      : options_(options),
        control_(control),
        lifeline_(control.lifeline ? control.lifeline : std::make_shared<Lifeline>()),
        trial_time_(std::chrono::nanoseconds(options.budget) / kTrialsInBudget),
        began_ns_(monotonic_ns()) {
    control_.lifeline = lifeline_;
    check();
  }

  TuneReport run() {
    lifeline_->state().phase = "measuring";
    look_around();
    begin_with_a_sample();
    const TuneSettings best =
        search_settings(start(), choices(), [&](const TuneSettings& settings) { return speed_of(settings); });
    compare_codecs(best);
    take_longer(kLongTrial);
    report_.best = trial(best, options_.compression, options_.encrypt != nullptr);
    conclude(best);
    return std::move(report_);
  }

 private:
  bool over_nbd() const noexcept { return is_nbd_uri(options_.source); }

  void check() {
    report_.source = nbd_uri_for_people(options_.source);
    report_.target = options_.to.empty() ? "null:" : options_.to;
    if (!options_.source_format.empty() && options_.source_format != "raw")
      throw Fault(FaultKind::usage, "-f " + options_.source_format + ": write -f raw, the one format that is read");
    if (is_null_target(report_.target)) return;
    const TargetCall mark(&lifeline_->state());
    struct stat info {};
    if (::stat(options_.to.c_str(), &info) != 0) throw_target_errno(errno, options_.to, "stat");
    if (!S_ISDIR(info.st_mode)) throw Fault(FaultKind::usage, options_.to + ": is no directory");
  }

  TuneSettings start() const noexcept {
    return {!over_nbd()                 ? 0
            : options_.connections == 0 ? 4
                                        : options_.connections,
            options_.item_size == 0 ? kDefaultItem : options_.item_size, options_.threads == 0 ? cpus() : options_.threads};
  }

  static unsigned cpus() noexcept { return std::max(1u, std::thread::hardware_concurrency()); }

  TuneChoices choices() const {
    TuneChoices choices;
    if (over_nbd()) choices.connections = {1, 2, 4, 8};
    for (std::uint64_t size = 128u << 10; size <= 4u << 20; size *= 2) choices.item_sizes.push_back(size);
    choices.threads = thread_choices(cpus());
    return choices;
  }

  std::uint64_t unit() const noexcept { return std::max<std::uint64_t>(options_.cluster_size, 64u << 10); }

  SourcePlace source() const { return {options_.source, options_.source_format, options_.shared_source, sample_}; }

  /// Where there is data, from the source's own extents.
  void look_around() {
    JobLoop job(1, control_.stop);
    const std::int64_t until = monotonic_ns() + 4 * trial_time_.count();
    job.run([&]() -> asio::awaitable<void> { return walk(job, until); });
    report_.virtual_size = ground_.size;
    if (ground_.data.empty()) throw Fault(FaultKind::source, report_.source + ": holds no data to measure with");
  }

  asio::awaitable<void> walk(JobLoop& job, std::int64_t until) {
    PipelineBounds bounds;
    bounds.io_timeout = options_.io_timeout;
    const std::unique_ptr<BlockSource> opened = co_await open_source(job, source(), bounds, &lifeline_->state());
    ground_.size = opened->traits().size;
    for (GuestOffset at; at.value < ground_.size && ground_.data.size() < kMostExtents;) {
      const std::vector<Extent> extents = co_await opened->extents(at, unit());
      for (const Extent& extent : extents)
        if (extent.kind == ExtentKind::data) ground_.data.push_back(extent.range);
      at = extents.back().range.end();
      if (!ground_.data.empty() && monotonic_ns() > until) break;
    }
  }

  void choose(std::uint64_t bytes, std::chrono::nanoseconds time) {
    const auto sample = std::make_shared<Sample>();
    sample->ranges = choose_sample(ground_.data, std::clamp(bytes, kSmallestSample, kLargestSample), unit());
    sample->time = time;
    sample_ = sample;
  }

  /// As much as a trial reads in its time, so that a slow source's sample is spread over the disk, too.
  void begin_with_a_sample() {
    choose(kLargestSample, trial_time_);
    look_at_cache();
    const TuneTrial first = trial(start(), options_.compression, options_.encrypt != nullptr);
    rate_ = first.bytes_per_second;
    take_longer(1);
  }

  void take_longer(int times) {
    const double seconds = std::chrono::duration<double>(trial_time_).count() * times;
    choose(static_cast<std::uint64_t>(std::min(rate_ * seconds, 1e18)), kPatience * times * trial_time_);
    report_.sample_bytes = bytes_of(sample_->ranges);
  }

  void look_at_cache() {
    const double share = over_nbd() ? -1 : cached_share(options_.source, sample_->ranges, &lifeline_->state());
    report_.page_cache = share < 0 ? "unknown" : share < kWarm ? "cold" : "warm";
  }

  std::optional<double> speed_of(const TuneSettings& settings) {
    // What comes after the search takes a third of the budget.
    if (monotonic_ns() - began_ns_ > std::chrono::nanoseconds(options_.budget).count() * 2 / 3) return std::nullopt;
    report_.trials.push_back(trial(settings, options_.compression, options_.encrypt != nullptr));
    rate_ = std::max(rate_, report_.trials.back().bytes_per_second);
    return report_.trials.back().bytes_per_second;
  }

  TransferOptions transfer_options(const TuneSettings& settings, const std::string& compression, bool encrypted) const {
    TransferOptions options = options_;
    options.connections = settings.connections;
    options.item_size = settings.item_size;
    options.threads = settings.threads;
    options.compression = compression;
    options.encrypt = encrypted ? trial_passphrase() : nullptr;
    options.pbkdf_iterations = kTrialIterations;
    options.allow_weak_pbkdf = true;
    return options;
  }

  TuneTrial trial(const TuneSettings& settings, const std::string& compression, bool encrypted) {
    if (report_.page_cache == "cold") drop_cached(options_.source, sample_->ranges, &lifeline_->state());
    const TransferOptions options = transfer_options(settings, compression, encrypted);
    std::optional<NewFile> file;
    if (!is_null_target(report_.target)) {
      const auto alive = [](const std::string& run_id) { return set::run_is_alive(run_id); };
      file.emplace(options_.to + "/nasbackup-tune", false, lifeline_->state(), alive);
    }
    Transfer transfer(options, lifeline_->state(), control_);
    const TargetPlace target{file ? file->hidden_path() : report_.target, "qcow2", compression_of(options), nullptr};
    const DiskReport disk = transfer.run({{"disk0", report_.source, source(), target}}).front();
    return result_of(settings, disk, encrypted);
  }

  TuneTrial result_of(const TuneSettings& settings, const DiskReport& disk, bool encrypted) const {
    TuneTrial result;
    result.connections = settings.connections;
    result.item_size = settings.item_size;
    result.threads = settings.threads;
    result.compression = disk.compression;
    result.encrypted = encrypted;
    result.data_bytes = disk.data_bytes;
    result.seconds = disk.seconds;
    result.bytes_per_second = static_cast<double>(disk.data_bytes) / std::max(disk.seconds, 1e-6);
    const auto cluster = static_cast<double>(options_.cluster_size);
    const double clusters = static_cast<double>(disk.compressed_clusters + disk.plain_clusters) * cluster;
    const double stored = static_cast<double>(disk.compressed_bytes) + static_cast<double>(disk.plain_clusters) * cluster;
    result.ratio = clusters > 0 ? stored / clusters : 1;
    result.stages = disk.stages;
    result.cpu = disk.cpu;
    return result;
  }

  void compare_codecs(const TuneSettings& best) {
    report_.codecs.push_back(trial(best, "", false));
    for (const char* codec : kCodecs)
      if (is_built_in(std::string_view(codec).starts_with("zstd") ? Codec::zstd : Codec::zlib))
        report_.codecs.push_back(trial(best, codec, false));
    report_.codecs.push_back(trial(best, "", true));
  }

  void conclude(const TuneSettings& best) {
    report_.limit = busiest_stage(report_.best.stages);
    if (over_nbd()) report_.arguments = "--connections " + std::to_string(best.connections) + " ";
    report_.arguments += "--item-size " + std::to_string(best.item_size >> 10) + "K -j " + std::to_string(best.threads);
    if (!options_.compression.empty()) report_.arguments += " -c=" + options_.compression;
    if (options_.encrypt) report_.arguments += " -e FILE";
    report_.seconds = static_cast<double>(monotonic_ns() - began_ns_) / 1e9;
  }

  const TuneOptions& options_;
  JobControl control_;
  std::shared_ptr<Lifeline> lifeline_;
  std::chrono::nanoseconds trial_time_;
  std::int64_t began_ns_;
  Ground ground_;
  std::shared_ptr<const Sample> sample_;  // null: everything
  double rate_ = 0;                       // bytes per second, the best so far
  TuneReport report_;
};

}  // namespace

TuneReport tune(const TuneOptions& options, const JobControl& control) {
  return translate_faults([&] { return Tuning(options, control).run(); });
}

}  // namespace nasbackup
