// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Moves the disks of one job; see transfer.h.
#include "engine/transfer.h"

#include <algorithm>
#include <bit>

#include "engine/io/lifeline_state.h"
#include "engine/luks_image.h"
#include "engine/pipeline/task_group.h"
#include "engine/storage_keys.h"
#include "formats/format_error.h"
#include "formats/qcow2_format.h"

namespace nasbackup {

namespace {

/// What the processes of a run need beside the buffers: programs, libraries, tables (docs/performance.md). The rest of
/// --memory is for buffers.
constexpr std::uint64_t kBesideBuffers = 40u << 20;
constexpr std::uint64_t kLeastMemory = kBesideBuffers + (8u << 20);
/// What librbd and its threads need besides.
constexpr std::uint64_t kCephLibrary = 24u << 20;
constexpr std::uint64_t kLeastItem = 64u << 10, kMostItem = 8u << 20;
constexpr unsigned kMostThreads = 1024;
constexpr unsigned kMostConnections = 64;  // QEMU's own limit is 100, and others may be there too

DiskReport report_of(const TransferDisk& disk, const DiskCopy& copy, bool encrypted) {
  const DiskCounts& counts = copy.counts();
  DiskReport report;
  report.name = disk.name;
  report.source = disk.origin;
  report.image = disk.target.location;
  report.virtual_size = copy.virtual_size();
  report.read_bytes = counts.read_bytes;
  report.data_bytes = counts.data_bytes;
  report.zero_bytes = counts.zero_bytes;
  report.parent_bytes = counts.parent_bytes;
  report.stored_bytes = counts.stored_bytes;
  const EncoderCounts encoded = copy.encoder().counts();
  report.compression = disk.target.compression ? to_string(*disk.target.compression) : "";
  report.encryption = !encrypted ? "none" : disk.target.becomes_container() ? "luks container" : "luks";
  report.chosen = copy.encoder().chosen();
  report.compressed_clusters = encoded.compressed_clusters;
  report.compressed_bytes = encoded.compressed_bytes;
  report.copied_clusters = encoded.copied_clusters;
  report.plain_clusters = encoded.plain_clusters;
  report.cpu = {{"encode", encoded.cpu_seconds}, {"encrypt", copy.encrypting_cpu_seconds()}};
  if (copy.digests() != nullptr) report.cpu["digest"] = copy.digests()->cpu_seconds();
  const StageClocks& clocks = copy.clocks();
  report.stages = {{"throttle", clocks.throttle.seconds()}, {"read", clocks.read.seconds()},
                   {"encode", clocks.encode.seconds()},     {"place", clocks.place.seconds()},
                   {"encrypt", clocks.encrypt.seconds()},   {"write", clocks.write.seconds()},
                   {"flush", clocks.flush.seconds()}};
  return report;
}

/// The volume key is random, so its digest needs less than the slot that a passphrase opens.
Stretching stretching_of(const TransferOptions& options) {
  Stretching stretching;
  stretching.slot = options.pbkdf_iterations;
  stretching.digest = std::min(luks::digest_iterations(options.pbkdf_iterations), stretching.digest);
  return stretching;
}

bool uses_ceph(const std::vector<TransferDisk>& disks) {
  return std::any_of(disks.begin(), disks.end(), [](const TransferDisk& disk) {
    return is_rbd_location(disk.source.location) || is_rbd_location(disk.target.location);
  });
}

/// Rethrows it as the disk's, unless it is none of the disk's.
[[noreturn]] void complain(const TransferDisk& disk, const Fault& fault) {
  const bool of_disk = fault.kind() != FaultKind::interrupted && fault.kind() != FaultKind::locked;
  if (disk.complaint.empty() || !of_disk) throw;
  const std::string what = fault.what(), place = disk.origin + ": ";
  throw Fault(fault.kind(), disk.complaint + ": " + (what.starts_with(place) ? what.substr(place.size()) : what));
}

asio::awaitable<void> copy_one(DiskCopy& copy, const TransferDisk& disk, bool encrypted, DiskReport& report) {
  const std::int64_t began = monotonic_ns();
  co_await copy.run();
  report = report_of(disk, copy, encrypted);
  report.seconds = static_cast<double>(monotonic_ns() - began) / 1e9;
}

}  // namespace

void check_transfer(const TransferOptions& options) {
  const auto refuse = [](const std::string& line) { throw Fault(FaultKind::usage, line); };
  const std::uint64_t cluster = options.cluster_size;
  if (!std::has_single_bit(cluster) || cluster < (1u << qcow2::kMinClusterBits) || cluster > (1u << qcow2::kMaxClusterBits))
    refuse("--cluster-size: " + std::to_string(cluster) + ": write a power of two from 512 to 2M");
  if (options.memory < kLeastMemory) refuse("--memory: " + std::to_string(options.memory) + ": write at least 48M");
  if (options.threads > kMostThreads) refuse("--threads: " + std::to_string(options.threads) + ": write at most 1024");
  if (options.connections > kMostConnections)
    refuse("--connections: " + std::to_string(options.connections) + ": write at most 64");
  const std::uint64_t item = options.item_size;
  if (item != 0 && (!std::has_single_bit(item) || item < kLeastItem || item > kMostItem))
    refuse("--item-size: " + std::to_string(item) + ": write a power of two from 64K to 8M");
  if (options.limit.per_disk && !options.rate_group.empty())
    refuse("--rate-per-disk: the limit of a group is that of all its members: leave it or --rate-group out");
  compression_of(options);
}

std::optional<Compression> compression_of(const TransferOptions& options) {
  if (options.compression.empty()) return std::nullopt;
  try {
    return parse_compression(options.compression);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::usage, std::string("--") + error.what());
  }
}

std::uint64_t buffers_of(const TransferOptions& options) noexcept {
  return options.memory - std::min(options.memory, kBesideBuffers);
}

void check_source_format(const std::string& format) {
  if (!format.empty() && format != "raw" && format != "qcow2" && format != "luks")
    throw Fault(FaultKind::usage, "-f " + format + ": write -f raw, -f qcow2 or -f luks");
}

Transfer::Transfer(const TransferOptions& options, LifelineState& lifeline, const JobControl& control, const char* phase)
    : options_((check_transfer(options), options)),
      lifeline_(lifeline),
      phase_(phase),
      on_message_(control.on_message),
      job_(options.threads, control.stop),
      source_keys_(std::make_shared<luks::KeyRing>(ring_of(options.source_keys, job_.stop().token()))),
      on_limit_(control.rate_control, [this](const Limit& limit) { set_limit(limit); }),
      written_keys_(std::make_shared<luks::KeyRing>(ring_of({}, {}))) {
  if (!options_.limit.per_disk) next_limiter();
}

void Transfer::lift_limit() {
  const std::lock_guard lock(limiters_mutex_);
  lifted_ = true;
  for (Limiter& limiter : limiters_) limiter.lift();
}

void Transfer::set_limit(const Limit& limit) {
  const std::lock_guard lock(limiters_mutex_);
  limit_ = limit;
  for (Limiter& limiter : limiters_) limiter.set(limit);
}

/// Of the next disk.
Limiter& Transfer::next_limiter() {
  const std::lock_guard lock(limiters_mutex_);
  if (!limiters_.empty() && !options_.limit.per_disk) return limiters_.front();
  limiters_.emplace_back(job_.executor(), job_.stop(), limit_ ? *limit_ : limit_of(options_.limit),
                         join_rate_group(options_.rate_group));
  if (lifted_) limiters_.back().lift();
  return limiters_.back();
}

std::vector<DiskReport> Transfer::run(const std::vector<TransferDisk>& disks) {
  std::vector<DiskReport> reports(disks.size());
  digests_.resize(disks.size());
  make_room_for_libraries(disks);
  job_.run([&] { return copy_all(disks, reports); });
  return reports;
}

asio::awaitable<void> Transfer::copy_all(const std::vector<TransferDisk>& disks, std::vector<DiskReport>& reports) {
  std::deque<DiskCopy> copies = co_await build_all(disks);
  lifeline_.phase = phase_;
  std::size_t next = 0;
  const auto copy_in_turn = [&]() -> asio::awaitable<void> {
    while (next < disks.size()) {
      const std::size_t mine = next++;
      try {
        co_await copy_one(copies[mine], disks[mine], keys_.has_value(), reports[mine]);
      } catch (const Fault& fault) {
        complain(disks[mine], fault);
      }
      if (copies[mine].digests() != nullptr) digests_[mine] = copies[mine].digests()->summary();
    }
  };
  TaskGroup tasks(job_.executor(), [this](std::exception_ptr failure) { job_.fail(failure); });
  for (std::size_t i = most_at_once(copies); i > 0; --i) tasks.spawn(copy_in_turn());
  co_await tasks.join();
}

asio::awaitable<std::deque<DiskCopy>> Transfer::build_all(const std::vector<TransferDisk>& disks) {
  std::deque<DiskCopy> copies;
  make_keys();
  for (const TransferDisk& disk : disks) {
    job_.stop().throw_if_stopped();
    TargetPlace target = disk.target;
    if (keys_) target.key = keys_->next_image();
    image_keys_.push_back(target.key);
    SourcePlace source = disk.source;
    if (!source.keys) source.keys = source_keys_;
    std::optional<DiskPipeline> pipeline;
    try {
      pipeline.emplace(co_await build_pipeline(job_, source, target, bounds_for(disks.size()), &lifeline_));
    } catch (const Fault& fault) {
      complain(disk, fault);
    }
    copies.emplace_back(job_, std::move(*pipeline), next_limiter(), &lifeline_);
    // What will be read back counts twice.
    const std::uint64_t times = disk.announced ? 0 : options_.verify == VerifyLevel::data ? 2 : 1;
    lifeline_.total_bytes += times * copies.back().virtual_size();
    for (const std::string& note : copies.back().notes())
      if (on_message_) on_message_(note);
  }
  co_return copies;
}

// A disk that needs more than its share (large clusters, small --memory) makes others wait for their turn.
std::size_t Transfer::most_at_once(const std::deque<DiskCopy>& copies) const {
  std::uint64_t largest = 1;
  for (const DiskCopy& copy : copies) largest = std::max(largest, copy.memory());
  if (largest > buffers())
    throw Fault(FaultKind::usage, "--memory: " + std::to_string(options_.memory) +
                                      ": too little for clusters and compression of this kind: write at least " +
                                      std::to_string((largest + kBesideBuffers + libraries_ + (1u << 20) - 1) >> 20) + "M");
  return std::min<std::uint64_t>(buffers() / largest, copies.size());
}

void Transfer::make_room_for_libraries(const std::vector<TransferDisk>& disks) {
  if (!uses_ceph(disks)) return;
  libraries_ = kCephLibrary;
  if (options_.memory < kLeastMemory + libraries_)
    throw Fault(FaultKind::usage, "--memory: " + std::to_string(options_.memory) +
                                      ": too little for Ceph images: write at least " +
                                      std::to_string((kLeastMemory + libraries_) >> 20) + "M");
}

void Transfer::make_keys() {
  if (!options_.encrypt) return;
  const Stretching stretching = stretching_of(options_);
  if (shared_slot_)
    keys_.emplace(*shared_slot_, stretching, crypto::system_random(), job_.stop().token());
  else
    keys_.emplace(options_.encrypt->secret(), stretching, crypto::system_random(), job_.stop().token());
  derive_again();
}

std::shared_ptr<luks::KeyRing> Transfer::ring_for_written() {
  if (derived_again_.valid()) derived_again_.get();
  return written_keys_;
}

// Not by the key that the header was written with: who wrote a slot that the passphrase does not open must learn it here. The
// first derivation is waited for, because the header waits for it.
void Transfer::derive_again() {
  if (!keys_ || options_.verify == VerifyLevel::none) return;
  written_keys_ = std::make_shared<luks::KeyRing>(ring_of({options_.encrypt}, job_.stop().token()));
  derived_again_ = std::async(std::launch::async, [ring = written_keys_, first = keys_->slot_key(), kdf = keys_->kdf()] {
    first.wait();
    ring->slot_key(kdf, 0, luks::kVolumeKeyBytes);
  });
}

PipelineBounds Transfer::bounds_for(std::size_t disks) const {
  return {buffers() / std::max<std::size_t>(1, disks),
          options_.connections,
          options_.cluster_size,
          options_.io_timeout,
          options_.item_size,
          rbd_keys_of(options_.storage_keys)};
}

}  // namespace nasbackup
