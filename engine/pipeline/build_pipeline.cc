// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Stacks a pipeline; see build_pipeline.h.
#include "engine/pipeline/build_pipeline.h"

#include <sys/stat.h>

#include <algorithm>

#include "engine/io/bounded_source.h"
#include "engine/io/file_target.h"
#include "engine/io/image_chain.h"
#include "engine/io/image_source.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/luks_target.h"
#include "engine/io/location.h"
#include "engine/io/nbd_source.h"
#include "engine/io/nbd_target.h"
#include "engine/io/on_thread.h"
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
/// The same while they are only compared with what is known.
constexpr std::uint64_t kZeroesProvenAtOnce = std::uint64_t{1} << 40;

/// The same while they become zero clusters: 2 MiB of L2 tables when clusters have 64 KiB.
constexpr std::uint64_t kZeroClustersAtOnce = std::uint64_t{16} << 30;

/// What is given up together where a source is damaged: a digest's piece.
constexpr std::uint64_t kForgivenAtOnce = 64u << 10;

bool is_block_device(const std::string& path, LifelineState* lifeline) {
  const TargetCall mark(lifeline);
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
}

RbdThreads threads_of(JobLoop& job) { return {job.executor(), job.pool(), job.stop()}; }

RbdAccess access_with(const PipelineBounds& bounds, LifelineState* lifeline) {
  return {bounds.rbd_keys, bounds.io_timeout, lifeline};
}

// A source file is read ahead by twice the threads, so that a thread that finishes always finds the next read waiting.
asio::awaitable<OpenedSource> open_protocol(JobLoop& job, const SourcePlace& place, const PipelineBounds& bounds,
                                            LifelineState* lifeline) {
  OpenedSource opened;
  if (is_remote(place.location) && !place.format.empty() && place.format != "raw")
    throw Fault(FaultKind::usage,
                location_for_people(place.location) + ": -f " + place.format + ": what comes over the network is read raw");
  if (is_rbd_location(place.location)) {
    opened.source = co_await open_rbd_source(threads_of(job), place.location, access_with(bounds, lifeline), place.shared);
    co_return opened;
  }
  if (is_nbd_uri(place.location)) {
    NbdSource::Options options{place.location, place.bitmap, bounds.connections, bounds.io_timeout, place.job, lifeline};
    opened.source = co_await NbdSource::open(job.executor(), job.stop(), std::move(options));
    co_return opened;
  }
  OpenedImage image;
  const ImagePlace file{place.location, place.format, place.shared, place.keys.get(), place.backing};
  auto open_file = [&] { image = open_image(file, lifeline); };  // which may stretch a key
  co_await on_thread(job.pool(), open_file);
  auto source = std::make_unique<ImageSource>(job.pool(), std::move(image.layer), 2 * job.threads());
  opened.streams = source.get();
  opened.source = std::move(source);
  opened.encrypted = image.encrypted;
  opened.notes = std::move(image.notes);
  co_return opened;
}

asio::awaitable<std::unique_ptr<BlockTarget>> open_target(JobLoop& job, const TargetPlace& place, std::uint64_t size,
                                                          const PipelineBounds& bounds, LifelineState* lifeline) {
  if (is_null_target(place.location)) co_return std::make_unique<NullTarget>();
  if (is_nbd_uri(place.location))
    co_return co_await NbdTarget::open(job.executor(), job.stop(), place.location, bounds.io_timeout, size);
  if (is_rbd_location(place.location))
    co_return co_await open_rbd_target(threads_of(job), place.location, access_with(bounds, lifeline), size, place.create);
  if (is_block_device(place.location, lifeline)) co_return FileTarget::open_device(place.location, size, lifeline);
  co_return FileTarget::create(place.location, lifeline);
}

bool is_raw(const TargetPlace& place) noexcept { return place.format != "qcow2"; }

/// Of a qcow2; nothing for other formats.
std::optional<qcow2::Geometry> geometry_of(const TargetPlace& place, const std::string& source, std::uint64_t size,
                                           std::uint64_t cluster) {
  if (is_raw(place)) return std::nullopt;
  const bool header_inside = place.key != nullptr && !place.in_container();
  try {
    return qcow2::Geometry::of(size, cluster, header_inside ? luks::kPayloadInQcow2 * luks::kSectorBytes : 0);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::source, source + ": " + error.what());
  }
}

/// The layout, and around the target the node that encrypts, if any.
void add_format(DiskPipeline& pipeline, JobLoop& job, const TargetPlace& place, const std::optional<qcow2::Geometry>& geometry,
                bool blank) {
  const std::uint64_t size = pipeline.source->traits().size;
  LuksTarget::Placement placement = LuksTarget::container();
  if (!geometry) {
    // Whatever a container held reads as something: its zeroes are written.
    const bool in_container = place.key != nullptr;
    const bool writes_zeroes = in_container || !blank;
    const std::uint64_t length = in_container ? round_up(size, luks::kSectorBytes) : size;
    pipeline.begin_layout = [=] { return std::make_unique<RawLayout>(length, !writes_zeroes); };
    if (writes_zeroes) pipeline.absent_item = round_up(kZeroesAtOnce, pipeline.unit);
  } else {
    const bool zstd = place.compression && place.compression->codec == Codec::zstd;
    pipeline.begin_layout = [=, backing = place.backing] {
      return std::make_unique<qcow2::Layout>(*geometry, zstd ? qcow2::kZstd : qcow2::kZlib, backing);
    };
    if (!place.backing.empty()) pipeline.absent_item = round_up(kZeroClustersAtOnce, pipeline.unit);
    if (!place.in_container()) placement = LuksTarget::in_qcow2(geometry->luks_offset);
  }
  if (place.key == nullptr) return;
  auto luks =
      std::make_unique<LuksTarget>(std::move(pipeline.target), place.key, placement, job.pool(), pipeline.clocks->encrypt);
  pipeline.encryption = luks.get();
  pipeline.target = std::move(luks);
}

/// The digest file beside the image.
void add_digests(DiskPipeline& pipeline, const TargetPlace& place, const std::string& source, LifelineState* lifeline) {
  if (place.digests.empty()) return;
  try {
    pipeline.digests = std::make_unique<DiskDigests>(digests::piece_size_for(pipeline.cluster), pipeline.source->traits().size,
                                                     place.key.get(), FileTarget::create(place.digests, lifeline));
  } catch (const FormatError& error) {
    throw Fault(FaultKind::source, source + ": " + error.what());
  }
}

/// A disk of another size is not what was backed up, whatever it holds. A qcow2 has whole sectors.
void add_proofs(DiskPipeline& pipeline, const SourcePlace& source) {
  const std::uint64_t size = round_up(pipeline.source->traits().size, qcow2::kSectorSize);
  for (const auto& proof : source.proofs) {
    if (const std::uint64_t expected = round_up(proof->virtual_size(), qcow2::kSectorSize); size != expected)
      throw Fault(FaultKind::damaged, location_for_people(source.location) + ": virtual size: " + std::to_string(size) + ", " +
                                          proof->origin() + " has " + std::to_string(expected));
    pipeline.unit = std::max(pipeline.unit, proof->piece_size());
  }
  pipeline.proofs = source.proofs;
  if (!pipeline.proofs.empty()) pipeline.absent_item = round_up(kZeroesProvenAtOnce, pipeline.unit);
}

/// Bytes that the digests take, if any.
std::uint64_t digest_memory(const TargetPlace& place, std::uint64_t size, std::uint64_t cluster) noexcept {
  return place.digests.empty() ? 0 : digests::Writer::memory(digests::pieces_of(size, digests::piece_size_for(cluster)));
}

/// Bytes that an image of fixed length takes.
std::uint64_t room_for(const TargetPlace& place, std::uint64_t size) {
  return place.key == nullptr ? size : round_up(size, luks::kSectorBytes) + LuksTarget::shift_of(LuksTarget::container());
}

/// Tables of a qcow2 that are held, and as much once more when they are written at the end: L1, refcount table, an L2 table and a
/// refcount block; and the header's cluster.
std::uint64_t tables_of(const std::optional<qcow2::Geometry>& geometry) {
  if (!geometry) return 0;
  return (2 * (geometry->l1_clusters + geometry->refcount_table_clusters + 2) + 1) * geometry->cluster_size;
}

/// What so many workers hold at most: a buffer each; when compressing another one for the streams, a group of compressed clusters
/// that waits to be written, and a compressor for each that computes. One more group is being collected.
std::uint64_t memory_of(unsigned workers, const DiskPipeline& pipeline, const std::optional<Compression>& compression,
                        unsigned threads) {
  const std::uint64_t copies = workers * pipeline.library_copies * pipeline.item;
  if (!compression) return copies + workers * pipeline.item;
  const std::uint64_t group = qcow2::PackedClusters::largest_group(pipeline.cluster);
  return copies + group + workers * (2 * pipeline.item + group) +
         std::min(workers, threads) * compressor_bytes(*compression, pipeline.cluster);
}

/// Below this many workers smaller items are better than fewer of them.
constexpr unsigned kEnoughWorkers = 8;

/// As many as reads shall be under way, and the disk's share of the memory has room for; at least one.
unsigned workers_within(std::uint64_t memory, const DiskPipeline& pipeline, const std::optional<Compression>& compression,
                        unsigned depth, unsigned threads) {
  unsigned workers = 1;
  while (workers < depth && memory_of(workers + 1, pipeline, compression, threads) <= memory) ++workers;
  return workers;
}

/// The item and the workers: what the user asked for, else what the source goes fastest with, as far as there is memory for it.
void share_out(DiskPipeline& pipeline, const PipelineBounds& bounds, std::uint64_t memory,
               const std::optional<Compression>& compression, unsigned threads) {
  const SourceTraits traits = pipeline.source->traits();
  std::uint64_t item = bounds.item_size != 0 ? bounds.item_size : std::max(kDefaultItem, traits.item);
  for (;; item /= 2) {
    pipeline.item = std::max(item, pipeline.unit);
    pipeline.workers = workers_within(memory, pipeline, compression, traits.depth, threads);
    const bool smaller = bounds.item_size == 0 && item > kDefaultItem && pipeline.item == item;
    if (pipeline.workers >= std::min(kEnoughWorkers, traits.depth) || !smaller) return;
  }
}

}  // namespace

asio::awaitable<OpenedSource> open_source(JobLoop& job, SourcePlace place, PipelineBounds bounds, LifelineState* lifeline) {
  OpenedSource opened = co_await open_protocol(job, place, bounds, lifeline);
  if (place.size || place.on_damage || place.sample) opened.streams = nullptr;
  if (place.size) opened.source = std::make_unique<BoundedSource>(std::move(opened.source), *place.size);
  if (place.on_damage) {
    const std::uint64_t step = std::max(kForgivenAtOnce, opened.source->traits().alignment);
    opened.source = std::make_unique<ForgivingSource>(std::move(opened.source), step, place.on_damage);
  }
  if (place.sample) opened.source = std::make_unique<SampleSource>(std::move(opened.source), place.sample);
  co_return opened;
}

asio::awaitable<DiskPipeline> build_pipeline(JobLoop& job, SourcePlace source, TargetPlace target, PipelineBounds bounds,
                                             LifelineState* lifeline) {
  DiskPipeline pipeline;
  OpenedSource opened = co_await open_source(job, source, bounds, lifeline);
  if (opened.encrypted && !source.plaintext_allowed && target.key == nullptr)
    throw Fault(FaultKind::usage, location_for_people(source.location) +
                                      ": is encrypted, and would be written unencrypted: write -e FILE, or --allow-plaintext");
  pipeline.source = std::move(opened.source);
  if (source.keep_streams && target.compression) pipeline.streams = opened.streams;
  pipeline.notes = std::move(opened.notes);
  const SourceTraits traits = pipeline.source->traits();
  pipeline.cluster = bounds.cluster_size;
  const bool fixed = is_remote(target.location) || is_block_device(target.location, lifeline);
  const bool blank = !fixed || target.create;
  if (fixed && !is_raw(target))
    throw Fault(FaultKind::usage, location_for_people(target.location) + ": a qcow2 cannot grow there; write -O raw");
  pipeline.stores = target.format != "none";
  pipeline.encoder = std::make_unique<Encoder>(pipeline.cluster, target.compression, job.threads());
  pipeline.unit =
      std::max({pipeline.cluster, traits.alignment, target.digests.empty() ? 0 : digests::piece_size_for(pipeline.cluster)});
  add_proofs(pipeline, source);
  pipeline.library_copies = (is_rbd_location(source.location) ? 1 : 0) + (is_rbd_location(target.location) ? 1 : 0);
  const auto geometry = geometry_of(target, location_for_people(source.location), traits.size, pipeline.cluster);
  const std::uint64_t tables = tables_of(geometry) + digest_memory(target, traits.size, pipeline.cluster);
  const std::uint64_t share = bounds.memory - std::min(bounds.memory, tables);
  share_out(pipeline, bounds, share, target.compression, job.threads());
  pipeline.memory = tables + memory_of(pipeline.workers, pipeline, target.compression, job.threads());
  pipeline.target = co_await open_target(job, target, room_for(target, traits.size), bounds, lifeline);
  add_format(pipeline, job, target, geometry, blank);
  add_digests(pipeline, target, location_for_people(source.location), lifeline);
  co_return pipeline;
}

}  // namespace nasbackup
