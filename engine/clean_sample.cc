// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See clean_sample.h.
#include "engine/clean_sample.h"

#include <algorithm>

#include "crypto/random_source.h"
#include "engine/io/sample_source.h"
#include "engine/pipeline/build_pipeline.h"
#include "engine/transfer.h"

namespace nasbackup {

namespace {

/// As much of each disk: what an increment costs follows the change and not the size.
constexpr std::uint64_t kSampledBytes = 64u << 20;

struct Ranges {
  std::vector<GuestRange> data;   // of the whole disk
  std::vector<GuestRange> dirty;  // changed, data or not
};

SourcePlace place_of(const vm::JobExport& exported, bool with_bitmap) {
  SourcePlace place{exported.uri, "raw"};
  place.job = exported.socket;
  if (with_bitmap) place.bitmap = exported.bitmap;
  return place;
}

asio::awaitable<std::vector<GuestRange>> ranges_in(JobLoop& job, SourcePlace place, const TransferOptions& options,
                                                   LifelineState& state, ExtentKind but_for, std::uint64_t grid) {
  PipelineBounds bounds;
  bounds.connections = options.connections;
  bounds.io_timeout = options.io_timeout;
  const OpenedSource opened = co_await open_source(job, std::move(place), bounds, &state);
  co_return co_await ranges_but_for(*opened.source, but_for, grid);
}

Ranges look_at(const BackupRun& run, const vm::JobExport& exported, LifelineState& state, std::uint64_t grid) {
  Ranges found;
  JobLoop job(run.options().threads, run.stop());
  job.run([&]() -> asio::awaitable<void> {
    found.data = co_await ranges_in(job, place_of(exported, false), run.options(), state, ExtentKind::zero, grid);
    found.dirty = co_await ranges_in(job, place_of(exported, true), run.options(), state, ExtentKind::parent, grid);
  });
  return found;
}

std::vector<GuestRange> joined(std::vector<GuestRange> one, const std::vector<GuestRange>& other, std::uint64_t grid,
                               std::uint64_t size) {
  one.insert(one.end(), other.begin(), other.end());
  std::sort(one.begin(), one.end(), [](const GuestRange& a, const GuestRange& b) { return a.start < b.start; });
  return on_grid(one, grid, size);
}

TransferDisk sample_of(const BackupRun& run, const IncrementPlan& plan, const vm::JobExport& exported, LifelineState& state) {
  auto digests = plan.digests_of(exported.disk.target);
  const std::uint64_t grid = digests->piece_size(), size = digests->virtual_size();
  const Ranges found = look_at(run, exported, state, grid);
  const std::vector<GuestRange> clean = without(found.data, found.dirty);
  const double share = static_cast<double>(kSampledBytes) / static_cast<double>(std::max<std::uint64_t>(1, bytes_of(clean)));
  const auto sample = std::make_shared<Sample>();
  sample->ranges = choose_at_random(clean, std::min(1.0, share), grid, crypto::system_random());
  sample->time = std::chrono::nanoseconds::max();
  SourcePlace source = place_of(exported, false);
  source.sample = sample;
  const std::string line = exported.disk.target + ": guest bytes ", parent = plan.parent_name();
  const auto differs = [line, parent](GuestRange range) {
    throw Fault(FaultKind::damaged, line + std::to_string(range.start.value) + " to " + std::to_string(range.end().value) +
                                        ": the bitmap calls them unchanged, and they are not what " + parent +
                                        " holds: make a full backup");
  };
  source.proofs.push_back(std::make_shared<DiskProof>(std::move(digests), parent, differs,
                                                      joined(without(clean, sample->ranges), found.dirty, grid, size)));
  return {exported.disk.target, exported.disk.source, std::move(source), {"null:", "none", std::nullopt, nullptr}, true};
}

}  // namespace

void check_clean_sample(BackupRun& run, const IncrementPlan& plan, const std::vector<vm::JobExport>& exports) {
  std::vector<TransferDisk> disks;
  for (const vm::JobExport& exported : exports)
    if (!exported.bitmap.empty()) disks.push_back(sample_of(run, plan, exported, run.state()));
  if (disks.empty()) return;
  TransferOptions options = run.options();
  options.encrypt = nullptr;
  options.verify = VerifyLevel::none;
  Transfer(options, run.state(), run.control(), "sampling what did not change").run(disks);
}

}  // namespace nasbackup
