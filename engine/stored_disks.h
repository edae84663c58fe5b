// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What verify, restore and serve read: the disks of a proven set, each with its digests, or one image by itself, of which nothing
// is known beforehand, unless this very run wrote it. Blocking; used by one thread at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/nasbackup.h"
#include "engine/pipeline/build_pipeline.h"
#include "engine/proven_set.h"

namespace nasbackup {

struct StoredDisk {
  std::string name;                           ///< target (vda); of an image its file's name without endings
  std::string id;                             ///< of the volume; of an image the same as `name`
  std::string path;                           ///< of the image
  std::string format;                         ///< of it: "qcow2", also in a container; of an image as asked for
  std::uint64_t stored_bytes = 0;             ///< size of the file
  std::optional<std::uint64_t> virtual_size;  ///< of an image not known before it is opened
};

/// The digests of an image that this run wrote.
struct WrittenDigests {
  std::string path;
  digests::Root root{};
  const crypto::Secret* volume_key = nullptr;  ///< of the image, when its digests are made with it; outlives the disks
};

class StoredDisks {
 public:
  /// `path`: a set, DIR/VM for its newest, or an image of that format (empty: probed). The passphrases are those of
  /// `options.source_keys`. Throws Fault as ProvenSet does.
  StoredDisks(const std::string& path, const std::string& format, const TransferOptions& options, const JobControl& control);
  /// Of a set that is not published yet; of an increment its own part alone, because what it stands on was proven before.
  StoredDisks(SetPlace place, std::shared_ptr<luks::KeyRing> ring, const JobControl& control);
  /// An image that this run wrote; with its digests, if there are any. Of what is written in place the virtual size must be
  /// known.
  StoredDisks(StoredDisk image, std::optional<WrittenDigests> digests, std::shared_ptr<luks::KeyRing> ring,
              const JobControl& control);

  /// Null: it is an image.
  const ProvenSet* set() const noexcept { return set_ ? &*set_ : nullptr; }
  const std::vector<StoredDisk>& disks() const noexcept { return disks_; }
  /// Index of the disk of that name, id or file. Throws Fault(usage), which begins with `option`.
  std::size_t find(const std::string& name, const std::string& option) const;
  luks::KeyRing& ring() const noexcept { return *ring_; }
  /// To be read by a transfer; `index` of disks().
  SourcePlace source(std::size_t index) const;
  /// The same; what is read is compared with the digests, if there are any, and the first difference is Fault(damaged).
  SourcePlace proven_source(std::size_t index) const;
  /// Null: an image has none. Throws Fault(damaged).
  std::unique_ptr<DigestChain> digests(std::size_t index) const;
  bool has_digests() const noexcept { return set_ || written_; }

 private:
  void add_disks_of_set();
  void add_image(const std::string& path, const std::string& format, const JobControl& control);

  std::shared_ptr<luks::KeyRing> ring_;
  const JobControl& control_;
  std::optional<ProvenSet> set_;
  bool own_part_ = false;  ///< of an increment: what it left to its parent is not looked at
  std::optional<WrittenDigests> written_;
  std::vector<StoredDisk> disks_;
};

}  // namespace nasbackup
