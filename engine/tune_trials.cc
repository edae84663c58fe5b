// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Trials; see tune_trials.h.
#include "engine/tune_trials.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <optional>

#include "crypto/random_source.h"
#include "engine/io/image_probe.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/io/new_file.h"
#include "engine/io/page_cache.h"
#include "engine/io/run_lock.h"
#include "engine/storage_keys.h"
#include "engine/transfer.h"

namespace nasbackup {

namespace {

/// What one trial reads and writes at most: a target gets no more than this at once.
constexpr std::uint64_t kLargestSample = 1u << 30;
/// The first look at how fast it goes, and by how much a longer one may exceed a short one, which begins slowly.
constexpr std::uint64_t kFirstSample = 8u << 20;
constexpr std::uint64_t kSmallestSample = 1u << 20;
constexpr std::uint64_t kGrowth = 8;
/// Of a trial that gets slow the sample is cut short after so many times what a trial should take.
constexpr int kPatience = 2;
/// Part of the target's room that a trial may take.
constexpr std::uint64_t kPartOfRoom = 4;
/// An image that is finely broken up is not walked to its end.
constexpr std::size_t kMostExtents = 1u << 20;
constexpr double kWarm = 0.5;
constexpr unsigned kMostConnections = 8;
constexpr std::chrono::seconds kConnectTimeout{2};
/// Only the cost of ciphering counts; the header of a trial guards nothing.
constexpr std::uint32_t kTrialIterations = 1000;

std::shared_ptr<const Passphrase> trial_passphrase() {
  std::array<std::byte, 32> bytes{};
  crypto::system_random().fill(bytes);
  return Passphrase::from_bytes(bytes.data(), bytes.size());
}

void check_directory(const std::string& path, LifelineState& lifeline) {
  const TargetCall mark(&lifeline);
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) throw Fault(FaultKind::not_found, path + ": no such directory");
    throw_target_errno(errno, path, "stat");
  }
  if (!S_ISDIR(info.st_mode)) throw Fault(FaultKind::usage, path + ": is no directory");
}

/// Bytes to store of bytes that are not zero.
double ratio_of(const DiskReport& disk, std::uint64_t cluster_size) {
  const std::uint64_t plain = disk.plain_clusters * cluster_size;
  const std::uint64_t original = plain + disk.compressed_clusters * cluster_size;
  return original == 0 ? 1 : static_cast<double>(plain + disk.compressed_bytes) / static_cast<double>(original);
}

TuneTrial trial_of(const TuneSettings& settings, const TuneRecipe& recipe, const DiskReport& disk, std::uint64_t cluster_size) {
  TuneTrial trial;
  trial.connections = settings.connections;
  trial.item_size = settings.item_size;
  trial.threads = settings.threads;
  trial.compression = recipe.compression;
  trial.encrypted = recipe.encrypted;
  trial.data_bytes = disk.read_bytes;
  trial.seconds = disk.seconds;
  trial.bytes_per_second = static_cast<double>(disk.read_bytes) / std::max(disk.seconds, 1e-6);
  trial.ratio = ratio_of(disk, cluster_size);
  trial.stages = disk.stages;
  trial.cpu = disk.cpu;
  return trial;
}

}  // namespace

TuneTrials::TuneTrials(const TuneOptions& options, const JobControl& control)
    : options_(options), control_(control), target_(options.to.empty() ? "null:" : options.to) {
  if (!control_.lifeline) control_.lifeline = std::make_shared<Lifeline>();
  check_source_format(options.source_format);
  if (!is_null_target(target_)) check_directory(target_, state());
}

void TuneTrials::look_around(std::chrono::nanoseconds time) {
  state().phase = "looking at the source";
  JobLoop job(1, control_.stop);
  const std::int64_t until = monotonic_ns() + time.count();
  job.run([&]() -> asio::awaitable<void> { return walk(job, until); });
  if (data_.empty()) throw Fault(FaultKind::source, location_for_people(options_.source) + ": holds no data to measure with");
  choose(largest_sample(), {});
  look_at_page_cache();
}

// A server that takes fewer clients (qemu-nbd -e) lets the others wait: as many as suit it are enough then.
asio::awaitable<OpenedSource> TuneTrials::open_with_most(JobLoop& job) {
  const SourcePlace place{options_.source, options_.source_format, options_.shared_source};
  PipelineBounds bounds;
  bounds.rbd_keys = rbd_keys_of(options_.storage_keys);
  bounds.connections = kMostConnections;
  bounds.io_timeout = std::min(options_.io_timeout, kConnectTimeout);
  try {
    co_return co_await open_source(job, place, bounds, &state());
  } catch (const Fault& fault) {
    if (fault.kind() != FaultKind::timed_out) throw;
  }
  bounds.connections = options_.connections;
  bounds.io_timeout = options_.io_timeout;
  co_return co_await open_source(job, place, bounds, &state());
}

asio::awaitable<void> TuneTrials::walk(JobLoop& job, std::int64_t until) {
  const OpenedSource opened = co_await open_with_most(job);
  BlockSource* source = opened.source.get();
  const SourceTraits traits = source->traits();
  size_ = traits.size;
  connections_ = traits.connections;
  const std::uint64_t granularity = std::max(options_.cluster_size, traits.alignment);
  for (GuestOffset at; at.value < size_ && data_.size() < kMostExtents;) {
    const std::vector<Extent> extents = co_await source->extents(at, granularity);
    for (const Extent& extent : extents)
      if (extent.kind == ExtentKind::data) data_.push_back(extent.range);
    at = extents.back().range.end();
    if (!data_.empty() && monotonic_ns() > until) break;
  }
}

// What is in memory is read from there, as a backup of it would be now; what is not must not get there by the first trial.
void TuneTrials::look_at_page_cache() {
  if (is_remote(options_.source)) return;
  if (options_.source_format != "raw" && probe_image(ImageBytes(options_.source, &state())).format != ImageFormat::raw)
    return;  // the sample lies elsewhere in the file
  const double share = cached_share(options_.source, sample_->ranges, &state());
  page_cache_ = share < 0 ? "unknown" : share < kWarm ? "cold" : "warm";
}

void TuneTrials::choose(std::uint64_t bytes, std::chrono::nanoseconds time) {
  const auto sample = std::make_shared<Sample>();
  sample->ranges = choose_sample(data_, bytes);
  sample->time = time;
  sample_ = sample;
}

std::uint64_t TuneTrials::largest_sample() const {
  std::uint64_t largest = std::min(kLargestSample, bytes_of(data_));
  if (is_null_target(target_)) return largest;
  const TargetCall mark(&state());
  struct statvfs room {};
  if (::statvfs(target_.c_str(), &room) == 0 && room.f_blocks != 0)
    largest = std::min<std::uint64_t>(largest, room.f_bavail * room.f_frsize / kPartOfRoom);
  return std::max(largest, kSmallestSample);
}

TransferOptions TuneTrials::transfer_options(const TuneSettings& settings, const TuneRecipe& recipe) const {
  TransferOptions options = options_;
  options.connections = settings.connections;
  options.item_size = settings.item_size;
  options.threads = settings.threads;
  options.compression = recipe.compression;
  options.encrypt = recipe.encrypted ? trial_passphrase() : nullptr;
  options.pbkdf_iterations = kTrialIterations;
  options.allow_weak_pbkdf = true;
  return options;
}

TuneTrial TuneTrials::run(const TuneSettings& settings, const TuneRecipe& recipe) {
  state().phase = "measuring";
  if (page_cache_ == "cold") drop_cached(options_.source, sample_->ranges, &state());
  const TransferOptions options = transfer_options(settings, recipe);
  std::optional<NewFile> file;
  if (!is_null_target(target_)) {
    const auto alive = [](const std::string& run_id) { return run_is_alive(run_id); };
    file.emplace(target_ + "/nasbackup-tune", true, state(), alive);
  }
  Transfer transfer(options, state(), control_);
  SourcePlace source{options_.source, options_.source_format, options_.shared_source};
  source.sample = sample_;
  const TargetPlace target{file ? file->hidden_path() : target_, "qcow2", compression_of(options), nullptr};
  const DiskReport disk = transfer.run({{"disk0", location_for_people(options_.source), source, target}}).front();
  return trial_of(settings, recipe, disk, options_.cluster_size);
}

TuneTrial TuneTrials::run_for(std::chrono::nanoseconds time, const TuneSettings& settings, const TuneRecipe& recipe) {
  const std::uint64_t largest = largest_sample();
  const double seconds = std::chrono::duration<double>(time).count();
  for (std::uint64_t bytes = std::min(kFirstSample, largest);;) {
    choose(bytes, kPatience * time);
    const TuneTrial trial = run(settings, recipe);
    if (trial.seconds > seconds / 2 || bytes >= largest) return trial;
    const auto wanted = static_cast<std::uint64_t>(std::min(trial.bytes_per_second * seconds, 1e18));
    bytes = std::min(std::clamp(wanted, 2 * bytes, kGrowth * bytes), largest);
  }
}

}  // namespace nasbackup
