// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// From guest bytes to runs of clusters; see encoder.h.
#include "engine/pipeline/encoder.h"

#include <cassert>
#include <cmath>

#include "engine/io/lifeline_state.h"
#include "engine/io/thread_cpu.h"
#include "formats/is_zero.h"
#include "formats/may_shrink.h"

namespace nasbackup {

namespace {

std::vector<Rung> rungs_for(const std::optional<Compression>& compression) {
  if (!compression) return {};
  if (compression->level != Level::automatic) return {{*compression, 0}};
  return ladder_of(compression->codec);
}

/// Nanoseconds for a MiB on one thread, roughly; only the ratios matter.
std::vector<double> costs_of(const std::vector<Rung>& rungs) {
  std::vector<double> costs;
  for (const Rung& rung : rungs) costs.push_back(1e9 / rung.mib_per_second);
  return costs;
}

}  // namespace

/// The compressors of one thread, one for each rung that it has used.
class Encoder::Compressors {
 public:
  explicit Compressors(std::size_t rungs) : by_rung_(rungs) {}
  Compressor& at(std::size_t rung, const Compression& compression, std::uint64_t cluster) {
    if (!by_rung_[rung]) by_rung_[rung] = make_compressor(compression, cluster);
    return *by_rung_[rung];
  }

 private:
  std::vector<std::unique_ptr<Compressor>> by_rung_;
};

Encoder::Encoder(std::uint64_t cluster, std::optional<Compression> compression, unsigned threads)
    : cluster_(cluster), compression_(compression), rungs_(rungs_for(compression)) {
  if (rungs_.size() > 1) control_.emplace(costs_of(rungs_), threads, monotonic_ns());
}

Encoder::~Encoder() = default;

std::vector<EncodedRun> Encoder::encode(GuestOffset at, std::span<std::byte> bytes, std::span<std::byte> streams) {
  return compresses() ? compress_all(at, bytes, keeper(streams)) : find_data(at, bytes);
}

std::vector<EncodedRun> Encoder::encode(GuestOffset at, std::span<std::byte> bytes, const KeptStreams& kept) {
  assert(compresses());
  return compress_all(at, bytes, kept);
}

std::vector<EncodedRun> Encoder::find_data(GuestOffset at, std::span<std::byte> bytes) {
  std::vector<EncodedRun> runs;
  for (std::uint64_t offset = 0; offset < bytes.size(); offset += cluster_) {
    const auto cluster = bytes.subspan(offset, cluster_);
    if (!is_zero(cluster)) add_plain({at + offset, cluster}, runs);
  }
  return runs;
}

std::vector<EncodedRun> Encoder::compress_all(GuestOffset at, std::span<std::byte> bytes, const KeptStreams& kept) {
  const CpuMeter meter(cpu_ns_);
  const std::int64_t began = monotonic_ns();
  const std::size_t rung = control_ ? control_->rung() : 0;
  const auto compressors = idle_.lease([&] { return std::make_unique<Compressors>(rungs_.size()); });
  Compressor& compressor = compressors->at(rung, rungs_[rung].compression, cluster_);
  std::vector<EncodedRun> runs;
  std::span<std::byte> streams = kept.room();
  std::uint64_t data = 0;
  for (std::uint64_t offset = 0; offset < bytes.size(); offset += cluster_) {
    const auto cluster = bytes.subspan(offset, cluster_);
    if (is_zero(cluster)) continue;
    if (const auto stream = kept.at(at + offset); !stream.empty()) {
      runs.push_back(copied(at + offset, stream));
      continue;
    }
    data += cluster_;
    const std::size_t length = compress(compressor, cluster, streams);
    if (length == 0) {
      add_plain({at + offset, cluster}, runs);
      continue;
    }
    runs.push_back({at + offset, streams.first(length), true});
    streams = streams.subspan(length);
  }
  const std::int64_t now = monotonic_ns();
  if (control_) control_->note(rung, data, now - began, now);
  return runs;
}

EncodedRun Encoder::copied(GuestOffset at, std::span<std::byte> stream) {
  ++copied_clusters_;
  ++compressed_clusters_;
  compressed_bytes_ += stream.size();
  return {at, stream, true};
}

/// Length of the cluster's stream; 0 when it is stored as it is.
std::size_t Encoder::compress(Compressor& compressor, std::span<const std::byte> cluster, std::span<std::byte> into) {
  const std::size_t length = may_shrink(cluster) ? compressor.compress(cluster, into.first(most_worth_keeping(cluster_))) : 0;
  if (length != 0) {
    ++compressed_clusters_;
    compressed_bytes_ += length;
  }
  return length;
}

/// Joined with the run before where they are neighbours.
void Encoder::add_plain(EncodedRun run, std::vector<EncodedRun>& runs) {
  ++plain_clusters_;
  if (!runs.empty() && !runs.back().compressed && runs.back().at + runs.back().bytes.size() == run.at)
    runs.back().bytes = {runs.back().bytes.data(), runs.back().bytes.size() + run.bytes.size()};
  else
    runs.push_back(run);
}

EncoderCounts Encoder::counts() const noexcept {
  return {compressed_clusters_, compressed_bytes_, copied_clusters_, plain_clusters_, static_cast<double>(cpu_ns_) / 1e9};
}

std::string Encoder::chosen() const {
  if (!control_) return {};
  const std::vector<std::uint64_t> bytes = control_->bytes_by_rung();
  std::uint64_t all = 0;
  for (const std::uint64_t one : bytes) all += one;
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto percent = all == 0 ? 0 : std::lround(100.0 * static_cast<double>(bytes[i]) / static_cast<double>(all));
    if (percent > 0) text += (text.empty() ? "" : ", ") + to_string(rungs_[i].compression) + " " + std::to_string(percent) + " %";
  }
  return text;
}

}  // namespace nasbackup
