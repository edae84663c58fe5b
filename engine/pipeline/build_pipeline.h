// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The one place where a pipeline is stacked: from where a source and a target are, and of which format, to the nodes of a copy.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/image_key.h"
#include "engine/io/forgiving_source.h"
#include "engine/io/image_chain.h"
#include "engine/io/job_socket.h"
#include "engine/io/location.h"
#include "engine/io/rbd_storage.h"
#include "engine/io/sample_source.h"
#include "engine/pipeline/disk_copy.h"
#include "formats/luks_key_ring.h"

namespace nasbackup {

/// A source: a path, an nbd:// or nbd+unix:// URI, or an rbd: location.
struct SourcePlace {
  std::string location;
  std::string format;                                   ///< as in ImagePlace; what comes over the network is raw
  bool shared = false;                                  ///< do not look at image locks
  std::shared_ptr<luks::KeyRing> keys = nullptr;        ///< open what is encrypted; null: none is known
  bool plaintext_allowed = true;                        ///< what is encrypted may be written unencrypted
  std::vector<std::shared_ptr<DiskProof>> proofs = {};  ///< what is read is compared with each of them
  ForgivingSource::OnDamage on_damage = nullptr;        ///< told of what cannot be read, which is skipped; empty: it ends the job
  std::shared_ptr<const Sample> sample = nullptr;       ///< only this is read, all else called zero; null: everything
  KnownBacking backing = {};                            ///< of an image
  std::string bitmap = {};  ///< of an NBD export: the context that tells what changed; empty: everything is read
  std::optional<JobSocket> job = std::nullopt;  ///< what an NBD URI names when it is a backup job's export
  bool keep_streams = false;  ///< compressed clusters that are wanted compressed alike are stored as they are; of an image
  std::optional<std::uint64_t> size = std::nullopt;  ///< bytes of the disk, when what holds it may be longer: a device, an export
};

/// A target: a path (a new file, or an existing block device), an NBD URI, an rbd: location, or "null:".
struct TargetPlace {
  std::string location;
  std::string format;  ///< "qcow2", "raw" or "luks" (a raw disk in a LUKS container); "none" for null:, when it is only read
  std::optional<Compression> compression;
  std::shared_ptr<ImageKey> key;  ///< null: not encrypted
  std::string digests;            ///< path of the new file for the disk's digests; empty: none are taken
  bool create = false;            ///< of an rbd: location: the image is not there yet
  std::string backing = {};       ///< of a qcow2: the qcow2 on which it stands, by the name that its header has; empty: none

  /// When it is encrypted, it is so as a LUKS container: readers do not decrypt compressed clusters inside a qcow2, so what is
  /// compressed too is a compressed qcow2 inside of a container (ARCHITECTURE.md, "What we write, and never write").
  bool becomes_container() const noexcept { return compression || format == "luks"; }
  bool in_container() const noexcept { return key != nullptr && becomes_container(); }
};

/// About half a MiB of neighbours in one read: less costs more calls, more falls out of the caches (docs/performance.md).
inline constexpr std::uint64_t kDefaultItem = 512u << 10;

/// What the whole job may use; shared by its disks.
struct PipelineBounds {
  std::uint64_t memory = 0;             ///< bytes, this disk's share: what one worker needs it has anyway
  unsigned connections = 0;             ///< 0: what is best
  std::uint64_t cluster_size = 0;       ///< of a qcow2
  std::chrono::seconds io_timeout{60};  ///< of an NBD server, or a Ceph cluster
  std::uint64_t item_size = 0;          ///< bytes of neighbours in one read, a power of two; 0: kDefaultItem
  RbdKeys rbd_keys;                     ///< that locations name
};

struct OpenedSource {
  std::unique_ptr<BlockSource> source;
  StreamSource* streams = nullptr;  ///< the same, where it is an image itself and no node is around it
  bool encrypted = false;
  std::vector<std::string> notes;  ///< for the user, a line each
};

/// Opens the source alone. Throws Fault.
asio::awaitable<OpenedSource> open_source(JobLoop& job, SourcePlace place, PipelineBounds bounds, LifelineState* lifeline);

/// Opens both ends. Throws Fault; nothing that was not there before is left then, but for a target file that is not yet an image.
asio::awaitable<DiskPipeline> build_pipeline(JobLoop& job, SourcePlace source, TargetPlace target, PipelineBounds bounds,
                                             LifelineState* lifeline);

}  // namespace nasbackup
