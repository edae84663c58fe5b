// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Stacks a pipeline; see build_pipeline.h.
#include "engine/pipeline/build_pipeline.h"

#include <sys/stat.h>

#include <algorithm>

#include "engine/io/file_source.h"
#include "engine/io/file_target.h"
#include "engine/io/image_probe.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/luks_target.h"
#include "engine/io/nbd_connection.h"
#include "engine/io/nbd_source.h"
#include "engine/io/nbd_target.h"
#include "engine/io/null_target.h"
#include "formats/qcow2_packed_clusters.h"
#include "formats/compressor.h"
#include "formats/format_error.h"
#include "formats/qcow2_layout.h"
#include "formats/raw_layout.h"

namespace nasbackup {

namespace {

/// Between two items a worker sees that it is to stop. Not less: a disk of 16 TiB has 65536 of them.
constexpr std::uint64_t kZeroesAtOnce = 256u << 20;

bool is_block_device(const std::string& path, LifelineState* lifeline) {
  const TargetCall mark(lifeline);
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
}

// A source file is read ahead by twice the threads, so that a thread that finishes always finds the next read waiting.
asio::awaitable<std::unique_ptr<BlockSource>> open_protocol(JobLoop& job, const SourcePlace& place, const PipelineBounds& bounds,
                                                            LifelineState* lifeline) {
  if (is_nbd_uri(place.location)) {
    NbdSource::Options options{place.location, bounds.connections, bounds.io_timeout};
    co_return co_await NbdSource::open(job.executor(), job.stop(), std::move(options));
  }
  if (place.format.empty()) refuse_unless_raw(place.location, lifeline);
  co_return std::make_unique<FileSource>(job.pool(), place.location, place.shared, 2 * job.threads(), lifeline);
}

asio::awaitable<std::unique_ptr<BlockTarget>> open_target(JobLoop& job, const TargetPlace& place, std::uint64_t size,
                                                          const PipelineBounds& bounds, LifelineState* lifeline) {
  if (is_null_target(place.location)) co_return std::make_unique<NullTarget>();
  if (is_nbd_uri(place.location))
    co_return co_await NbdTarget::open(job.executor(), job.stop(), place.location, bounds.io_timeout, size);
  if (is_block_device(place.location, lifeline)) co_return FileTarget::open_device(place.location, size, lifeline);
  co_return FileTarget::create(place.location, place.format == "qcow2", lifeline);
}

bool is_raw(const TargetPlace& place) noexcept { return place.format != "qcow2"; }

qcow2::Geometry geometry_of(const TargetPlace& place, const std::string& source, std::uint64_t size, std::uint64_t cluster) {
  const bool header_inside = place.key != nullptr && !place.in_container();
  try {
    return qcow2::Geometry::of(size, cluster, header_inside ? luks::kPayloadInQcow2 * luks::kSectorBytes : 0);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::source, source + ": " + error.what());
  }
}

/// The layout, and around the target the node that encrypts, if any.
void add_format(DiskPipeline& pipeline, JobLoop& job, const TargetPlace& place, const std::string& source, bool blank) {
  const std::uint64_t size = pipeline.source->traits().size;
  LuksTarget::Placement placement = LuksTarget::container();
  if (is_raw(place)) {
    // Whatever a container held reads as something: its zeroes are written.
    const bool in_container = place.key != nullptr;
    const bool writes_zeroes = in_container || !blank;
    pipeline.layout = std::make_unique<RawLayout>(in_container ? round_up(size, luks::kSectorBytes) : size, !writes_zeroes);
    if (writes_zeroes) pipeline.zero_item = round_up(kZeroesAtOnce, pipeline.unit);
  } else {
    const qcow2::Geometry geometry = geometry_of(place, source, size, pipeline.cluster);
    const bool zstd = place.compression && place.compression->codec == Codec::zstd;
    pipeline.layout = std::make_unique<qcow2::Layout>(geometry, zstd ? qcow2::kZstd : qcow2::kZlib);
    if (!place.in_container()) placement = LuksTarget::in_qcow2(geometry.luks_offset);
  }
  if (place.key == nullptr) return;
  auto luks =
      std::make_unique<LuksTarget>(std::move(pipeline.target), place.key, placement, job.pool(), pipeline.clocks->encrypt);
  pipeline.encryption = luks.get();
  pipeline.target = std::move(luks);
}

/// Bytes that an image of fixed length takes.
std::uint64_t room_for(const TargetPlace& place, std::uint64_t size) {
  return place.key == nullptr ? size : round_up(size, luks::kSectorBytes) + LuksTarget::shift_of(LuksTarget::container());
}

/// What so many workers hold at most: a buffer each; when compressing another one for the streams, a group of compressed clusters
/// that waits to be written, and a compressor for each that computes. One more group is being collected.
std::uint64_t memory_of(unsigned workers, const DiskPipeline& pipeline, const std::optional<Compression>& compression,
                        unsigned threads) {
  if (!compression) return workers * pipeline.item;
  const std::uint64_t group = qcow2::PackedClusters::largest_group(pipeline.cluster);
  return group + workers * (2 * pipeline.item + group) +
         std::min(workers, threads) * compressor_bytes(*compression, pipeline.cluster);
}

/// As many as reads shall be under way, and memory has room for; at least one.
unsigned workers_within(const PipelineBounds& bounds, const DiskPipeline& pipeline, const std::optional<Compression>& compression,
                        unsigned depth, unsigned threads) {
  unsigned workers = 1;
  while (workers < depth && memory_of(workers + 1, pipeline, compression, threads) <= bounds.memory) ++workers;
  return workers;
}

}  // namespace

bool is_nbd_uri(const std::string& location) noexcept {
  return location.starts_with("nbd://") || location.starts_with("nbd+unix://") || location.starts_with("nbds://") ||
         location.starts_with("nbds+unix://");
}

bool is_null_target(const std::string& location) noexcept { return location == "null:"; }

asio::awaitable<std::unique_ptr<BlockSource>> open_source(JobLoop& job, SourcePlace place, PipelineBounds bounds,
                                                          LifelineState* lifeline) {
  std::unique_ptr<BlockSource> source = co_await open_protocol(job, place, bounds, lifeline);
  if (place.sample) co_return std::make_unique<SampleSource>(std::move(source), place.sample);
  co_return source;
}

asio::awaitable<DiskPipeline> build_pipeline(JobLoop& job, SourcePlace source, TargetPlace target, PipelineBounds bounds,
                                             LifelineState* lifeline) {
  DiskPipeline pipeline;
  pipeline.source = co_await open_source(job, source, bounds, lifeline);
  const SourceTraits traits = pipeline.source->traits();
  pipeline.cluster = bounds.cluster_size;
  const bool blank = !is_nbd_uri(target.location) && !is_block_device(target.location, lifeline);
  if (!blank && !is_raw(target))
    throw Fault(FaultKind::usage, nbd_uri_for_people(target.location) + ": a qcow2 cannot grow there; write -O raw");
  pipeline.encoder = std::make_unique<Encoder>(pipeline.cluster, target.compression, job.threads());
  pipeline.unit = std::max(pipeline.cluster, traits.alignment);
  pipeline.item = std::max(bounds.item_size == 0 ? kDefaultItem : bounds.item_size, pipeline.unit);
  pipeline.workers = workers_within(bounds, pipeline, target.compression, traits.depth, job.threads());
  const std::string origin = nbd_uri_for_people(source.location);
  if (!is_raw(target)) geometry_of(target, origin, traits.size, pipeline.cluster);  // its errors come before there is a file
  pipeline.target = co_await open_target(job, target, room_for(target, traits.size), bounds, lifeline);
  add_format(pipeline, job, target, origin, blank);
  co_return pipeline;
}

}  // namespace nasbackup
