// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See proven_set.h.
#include "engine/proven_set.h"

#include <algorithm>
#include <utility>

#include "engine/io/fault.h"
#include "engine/job_state.h"
#include "engine/set/directory.h"
#include "engine/set/hex.h"
#include "engine/set/small_file.h"
#include "formats/format_error.h"
#include "formats/luks_header.h"
#include "formats/sealed_file.h"

namespace nasbackup {

namespace {

/// NVRAM and TPM state are bounded at 64 MiB when they are kept; sealing adds less than a KiB.
constexpr std::size_t kMostSmallFile = (64u << 20) + 1024;
/// As many as images may stand on each other.
constexpr std::size_t kMostSetsOfChain = 64;

SetPlace place_of(const set::CatalogueSet& set) { return {set.path, set.name}; }

[[noreturn]] void damaged(const std::string& where, const std::string& what) {
  throw Fault(FaultKind::damaged, where + ": " + what);
}

/// What an image of an encrypted set is found to be instead is damage, and no other failure.
template <class Work>
auto as_damage(Work&& work) {
  try {
    return work();
  } catch (const Fault& fault) {
    if (fault.kind() != FaultKind::not_found && dynamic_cast<const NotEncrypted*>(&fault) == nullptr) throw;
    throw Fault(FaultKind::damaged, fault.what());
  }
}

}  // namespace

ProvenSet::ProvenSet(const std::string& path, luks::KeyRing& ring, const JobControl& control)
    : ProvenSet(place_of(set::find_set(path, state_of(control))), ring, control) {}

ProvenSet::ProvenSet(SetPlace place, luks::KeyRing& ring, const JobControl& control)
    : ProvenSet(std::move(place), ring, control, 1) {}

ProvenSet::ProvenSet(SetPlace place, luks::KeyRing& ring, const JobControl& control, std::size_t depth)
    : control_(control), place_(std::move(place)) {
  const auto directory = set::Directory::open(place_.path, state_of(control));
  const std::string where = directory.path_of(set::kManifestName);
  const auto file = set::read_small_file(directory, set::kManifestName, set::kMaxManifestSize);
  if (!file) damaged(where, "is missing");
  manifest_ = set::read_manifest(file->content, where);
  if (manifest_.set != place_.name) damaged(where, "is that of another set: " + manifest_.set);
  const bool sealed_with_key = !manifest_.seal.hmac.empty();
  if (!sealed_with_key && ring.size() != 0)
    damaged(where, "the set is not encrypted and has no HMAC, although there is a passphrase for it");
  if (sealed_with_key) {
    if (ring.size() == 0) throw Fault(FaultKind::wrong_key, path() + ": is encrypted: write -e FILE");
    open_images(ring);
    set::check_seal(file->content, manifest_, *set_key_, where);
  }
  prove_parent(ring, depth);
}

/// A sibling of the set's directory. That it is the very one that the increment was made from, its seal says.
void ProvenSet::prove_parent(luks::KeyRing& ring, std::size_t depth) {
  if (!manifest_.parent) return;
  go_on();
  const set::ManifestParent& named = *manifest_.parent;
  const std::string at = place_.path.substr(0, place_.path.rfind('/') + 1) + named.set;
  if (depth == kMostSetsOfChain) damaged(path(), "stands on more than 64 sets");
  if (!set::is_set(at, state_of(control_))) damaged(path(), "its parent " + named.set + " is missing");
  parent_.reset(new ProvenSet({at, named.set}, ring, control_, depth + 1));
  const set::ManifestSeal& seal = parent_->manifest().seal;
  if (seal.sha256 != named.sha256 || seal.hmac != named.hmac)
    damaged(path(), "its parent " + named.set + " is not the one that it was made from");
}

void ProvenSet::open_images(luks::KeyRing& ring) {
  if (manifest_.disks.empty()) damaged(path(), "is encrypted and has no image, so that nothing can prove its manifest");
  for (std::size_t disk = 0; disk < manifest_.disks.size(); ++disk) {
    go_on();
    open_image(manifest_.disks[disk], ring);
    unwrap(disk);
  }
}

void ProvenSet::open_image(const set::ManifestDisk& disk, luks::KeyRing& ring) {
  as_damage([&] {
    const LuksHeaderFile header(image_path(disk), ImageBytes::Access::read, state_of(control_));
    if (header.facts().uuid != disk.luks_uuid)
      damaged(image_path(disk), "LUKS header: uuid: " + header.facts().uuid + ", the manifest says " + disk.luks_uuid);
    try {
      luks::require_supported(header.facts());
    } catch (const FormatError& error) {
      damaged(image_path(disk), error.what());  // none of ours
    }
    luks::Unlocked unlocked = header.unlock(ring);
    volume_keys_.push_back(std::move(unlocked.volume_key));
    if (!opened_) opened_ = {header.facts().kdf(unlocked.slot), unlocked.passphrase};
  });
}

std::optional<luks::SharedSlot> ProvenSet::slot_for(const TransferOptions& options, luks::KeyRing& ring) const {
  if (!opened_ || !options.encrypt || !ring.has(options.encrypt->secret()->bytes(), opened_->passphrase)) return std::nullopt;
  const luks::SlotKdf& kdf = opened_->kdf;
  if (kdf.hash != crypto::Hash::sha256 || kdf.iterations < options.pbkdf_iterations) return std::nullopt;
  return luks::SharedSlot{kdf, ring.slot_key(kdf, opened_->passphrase, luks::kVolumeKeyBytes)};
}

void ProvenSet::unwrap(std::size_t disk) {
  auto key = crypto::unwrap_key(volume_keys_[disk].bytes(), set::kSetKeyPurpose, manifest_.seal.keys[disk]);
  const std::string where = path() + "/" + set::kManifestName, what = "seal: keys[" + std::to_string(disk) + "]";
  if (!key) damaged(where, what + ": does not belong to " + manifest_.disks[disk].file);
  if (set_key_ && !crypto::same_bytes(set_key_->bytes(), key->bytes())) damaged(where, what + ": is another set's key");
  if (!set_key_) set_key_ = std::move(key);
}

void ProvenSet::go_on() const {
  if (control_.stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped");
}

std::vector<std::string> ProvenSet::damage() const {
  std::vector<std::string> lines;
  const auto collect = [&](auto&& look) {
    try {
      look();
    } catch (const Fault& fault) {
      if (fault.kind() != FaultKind::damaged) throw;
      lines.push_back(fault.what());
    }
  };
  const auto directory = set::Directory::open(path(), state_of(control_));
  for (std::size_t i = 0; i < manifest_.disks.size(); ++i) {
    const set::ManifestDisk& disk = manifest_.disks[i];
    collect([&] {
      const auto status = directory.stat(disk.file);
      if (!status || !S_ISREG(status->st_mode)) damaged(image_path(disk), "is missing");
      if (static_cast<std::uint64_t>(status->st_size) != disk.stored_bytes)
        damaged(image_path(disk),
                "has " + std::to_string(status->st_size) + " bytes, the manifest says " + std::to_string(disk.stored_bytes));
    });
    collect([&] { own_digests_of(i); });
  }
  for (const set::ManifestFile& file : manifest_.files)
    collect([&] {
      const std::string sha256 = set::file_sha256(directory, file.name, file.size, [&] { go_on(); });
      if (sha256 != file.sha256)
        damaged(directory.path_of(file.name), "SHA-256: " + sha256 + ", the manifest says " + file.sha256);
    });
  return lines;
}

std::size_t ProvenSet::disk_with(const std::string& file) const {
  for (std::size_t i = 0; i < manifest_.disks.size(); ++i)
    if (manifest_.disks[i].file == file) return i;
  damaged(path(), file + ": an increment stands on it, and the set has no such image");
}

std::unique_ptr<DigestChain> ProvenSet::digests_of(std::size_t index) const {
  auto chain = std::make_unique<DigestChain>(own_digests_of(index));
  for (const ProvenSet* set = this; !set->manifest_.disks[index].parent_file.empty(); set = set->parent()) {
    index = set->parent()->disk_with(set->manifest_.disks[index].parent_file);
    chain->add(set->parent()->own_digests_of(index));
  }
  return chain;
}

std::vector<BackingPlace> ProvenSet::backing_of(std::size_t index) const {
  std::vector<BackingPlace> files;
  for (const ProvenSet* set = this; !set->manifest_.disks[index].parent_file.empty(); set = set->parent()) {
    const std::string file = set->manifest_.disks[index].parent_file;
    index = set->parent()->disk_with(file);
    files.push_back({set->parent()->path() + "/" + file, "qcow2", set::backing_name(set->parent()->manifest_.set, file)});
  }
  return files;
}

std::unique_ptr<DigestFile> ProvenSet::own_digests_of(std::size_t index) const {
  const set::ManifestDisk& disk = manifest_.disks[index];
  auto file = std::make_unique<DigestFile>(path() + "/" + disk.digests.file, volume_key(index), state_of(control_));
  const auto expect = [&](const char* what, std::uint64_t found, std::uint64_t expected) {
    if (found != expected)
      damaged(file->path(), std::string(what) + ": " + std::to_string(found) + ", the manifest says " + std::to_string(expected));
  };
  expect("bytes", file->file_size(), disk.digests.size);
  expect("virtual size", file->reader().virtual_size(), disk.virtual_size);
  expect("piece size", file->reader().piece_size(), disk.digests.piece_size);
  file->check(*set::from_hex<sizeof(digests::Root)>(disk.digests.root), [&] { go_on(); });
  return file;
}

std::vector<std::byte> ProvenSet::small_file(const std::string& name) const {
  const auto entry =
      std::find_if(manifest_.files.begin(), manifest_.files.end(), [&](const auto& file) { return file.name == name; });
  const std::string where = path() + "/" + name;
  if (entry == manifest_.files.end()) throw Fault(FaultKind::not_found, where + ": the set has no such file");
  const auto directory = set::Directory::open(path(), state_of(control_));
  const auto file = set::read_small_file(directory, name, std::min<std::uint64_t>(entry->size, kMostSmallFile));
  if (!file) damaged(where, "is missing");
  if (file->content.size() != entry->size || set::sha256_of(file->content) != entry->sha256)
    damaged(where, "is not what the manifest says: size or SHA-256");
  const auto bytes = std::as_bytes(std::span(file->content));
  if (!encrypted() || !name.ends_with(sealed::kSuffix)) return {bytes.begin(), bytes.end()};
  try {
    return sealed::open(*set_key_, name, bytes);
  } catch (const FormatError& error) {
    damaged(where, error.what());
  }
}

}  // namespace nasbackup
