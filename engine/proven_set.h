// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A set whose manifest is proven: what its writer wrote, as far as can be known. Of an encrypted set that means the HMAC under
// the set key, which comes out of the images' own headers (docs/formats/manifest.md, "The seal"); of another one a SHA-256, which
// finds damage and no forgery. So is every set on which it stands: its seal is named in the manifest of its child. Blocking; used
// by one thread at a time. A damaged set is Fault(damaged) in all that follows, "where: what: value".
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/digest_chain.h"
#include "engine/io/image_chain.h"
#include "engine/luks_image.h"
#include "engine/set/catalogue.h"

namespace nasbackup {

/// Where a set lies, and the name that its manifest must have.
struct SetPlace {
  std::string path;
  std::string name;
};

class ProvenSet {
 public:
  /// The set at `path`, or the newest in it. Throws Fault: not_found; wrong_key when an image opens with none of the passphrases,
  /// or the set is encrypted and there is none; damaged: also when there are passphrases and the set has no HMAC, or holds an
  /// image that is not encrypted.
  ProvenSet(const std::string& path, luks::KeyRing& ring, const JobControl& control);
  /// The same of a set that is not published yet.
  ProvenSet(SetPlace place, luks::KeyRing& ring, const JobControl& control);

  const std::string& path() const noexcept { return place_.path; }
  /// The set on which this one stands, proven too; null when it stands alone.
  const ProvenSet* parent() const noexcept { return parent_.get(); }
  const set::Manifest& manifest() const noexcept { return manifest_; }
  bool encrypted() const noexcept { return set_key_.has_value(); }
  /// Index of the disk whose image has that name. Throws Fault(damaged).
  std::size_t disk_with(const std::string& file) const;
  std::string image_path(const set::ManifestDisk& disk) const { return path() + "/" + disk.file; }
  /// Of the disk of that index in the manifest; null when the set is not encrypted.
  const crypto::Secret* volume_key(std::size_t disk) const noexcept { return encrypted() ? &volume_keys_[disk] : nullptr; }

  /// The slot with which an image of it was opened, for images that shall open with `options.encrypt` and be opened with these;
  /// nothing when that is another passphrase, or its key is stretched less than the options ask for. `ring`: that opened the set.
  std::optional<luks::SharedSlot> slot_for(const TransferOptions& options, luks::KeyRing& ring) const;

  /// A line for each file that is not what the manifest says, but what is in the images: sizes of images, sizes and SHA-256 of
  /// the small files, the digest files with their roots.
  std::vector<std::string> damage() const;
  /// The digests of that disk, proven: its own, and those of what its image stands on, to the end.
  std::unique_ptr<DigestChain> digests_of(std::size_t disk) const;
  /// Its own alone.
  std::unique_ptr<DigestFile> own_digests_of(std::size_t disk) const;
  /// What the image of that disk stands on, from the top, by the names that the headers must have.
  std::vector<BackingPlace> backing_of(std::size_t disk) const;
  /// The content of a small file by its name in the manifest, proven; a sealed one opened.
  std::vector<std::byte> small_file(const std::string& name) const;

 private:
  ProvenSet(SetPlace place, luks::KeyRing& ring, const JobControl& control, std::size_t depth);
  void prove_parent(luks::KeyRing& ring, std::size_t depth);
  void open_images(luks::KeyRing& ring);
  void open_image(const set::ManifestDisk& disk, luks::KeyRing& ring);
  void unwrap(std::size_t disk);
  void go_on() const;

  /// How an image was opened.
  struct Opened {
    luks::SlotKdf kdf;
    std::size_t passphrase;  ///< of the ring
  };

  const JobControl& control_;
  SetPlace place_;
  set::Manifest manifest_;
  std::vector<crypto::Secret> volume_keys_;  // of each disk, when encrypted
  std::optional<crypto::Secret> set_key_;
  std::optional<Opened> opened_;  // of the first, when encrypted
  std::unique_ptr<ProvenSet> parent_;
};

}  // namespace nasbackup
