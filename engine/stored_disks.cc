// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See stored_disks.h.
#include "engine/stored_disks.h"

#include "engine/io/base_name.h"
#include "engine/io/image_bytes.h"
#include "engine/io/location.h"
#include "engine/job_state.h"
#include "engine/luks_image.h"

namespace nasbackup {

namespace {

/// "/nas/root.qcow2.luks" → "root".
std::string stem_of(const std::string& location) {
  const std::string path = location.substr(0, is_nbd_uri(location) ? location.find('?') : std::string::npos);
  std::string name(base_name(path));
  for (const char* ending : {".luks", ".qcow2", ".raw", ".img"})
    if (name.size() > std::char_traits<char>::length(ending) && name.ends_with(ending)) name.resize(name.rfind('.'));
  return name.empty() ? "disk0" : name;
}

}  // namespace

StoredDisks::StoredDisks(const std::string& path, const std::string& format, const TransferOptions& options,
                         const JobControl& control)
    : ring_(std::make_shared<luks::KeyRing>(ring_of(options.source_keys, control.stop))), control_(control) {
  if (!set::is_set(path, state_of(control))) {
    add_image(path, format, control);
    return;
  }
  if (!format.empty()) throw Fault(FaultKind::usage, "-f " + format + ": is for an image; a set knows its formats");
  set_.emplace(path, *ring_, control);
  add_disks_of_set();
}

StoredDisks::StoredDisks(SetPlace place, std::shared_ptr<luks::KeyRing> ring, const JobControl& control)
    : ring_(std::move(ring)), control_(control), own_part_(true) {
  set_.emplace(std::move(place), *ring_, control);
  add_disks_of_set();
}

StoredDisks::StoredDisks(StoredDisk image, std::optional<WrittenDigests> digests, std::shared_ptr<luks::KeyRing> ring,
                         const JobControl& control)
    : ring_(std::move(ring)), control_(control), written_(std::move(digests)) {
  disks_.push_back(std::move(image));
}

void StoredDisks::add_disks_of_set() {
  for (const set::ManifestDisk& disk : set_->manifest().disks)
    disks_.push_back({disk.name, disk.id, set_->image_path(disk), "qcow2", disk.stored_bytes, disk.virtual_size});
}

void StoredDisks::add_image(const std::string& path, const std::string& format, const JobControl& control) {
  if (is_rbd_location(path))
    throw Fault(FaultKind::usage, location_for_people(path) + ": is neither a set nor a file; convert reads it");
  StoredDisk disk{stem_of(path), stem_of(path), path, format, 0, std::nullopt};
  if (!is_remote(path)) disk.stored_bytes = ImageBytes(path, state_of(control)).file_size();
  disks_.push_back(std::move(disk));
}

SourcePlace StoredDisks::source(std::size_t index) const {
  SourcePlace place{disks_[index].path, disks_[index].format};
  place.keys = ring_;
  if (written_) place.size = disks_[index].virtual_size;
  // A set is not to lead to other files of this host: its headers are not authenticated.
  place.backing.alone = set_.has_value();
  if (set_) place.backing.files = set_->backing_of(index);
  if (own_part_ && !place.backing.files.empty()) {
    place.backing.files.resize(1);
    place.backing.files.front().unread = true;
  }
  return place;
}

SourcePlace StoredDisks::proven_source(std::size_t index) const {
  SourcePlace place = source(index);
  auto chain = digests(index);
  if (!chain) return place;
  const auto refuse = [where = disks_[index].path](GuestRange range) {
    throw Fault(FaultKind::damaged, where + ": guest bytes " + std::to_string(range.start.value) + " to " +
                                        std::to_string(range.end().value) + ": differ from what was backed up");
  };
  place.proofs.push_back(std::make_shared<DiskProof>(std::move(chain), "what was backed up", refuse));
  return place;
}

std::unique_ptr<DigestChain> StoredDisks::digests(std::size_t index) const {
  if (set_ && own_part_) return std::make_unique<DigestChain>(set_->own_digests_of(index));
  if (set_) return set_->digests_of(index);
  if (!written_) return nullptr;
  auto file = std::make_unique<DigestFile>(written_->path, written_->volume_key, state_of(control_));
  file->check(written_->root, [this] {
    if (control_.stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped");
  });
  return std::make_unique<DigestChain>(std::move(file));
}

std::size_t StoredDisks::find(const std::string& name, const std::string& option) const {
  for (std::size_t i = 0; i < disks_.size(); ++i)
    if (name == disks_[i].name || name == disks_[i].id || name == base_name(disks_[i].path)) return i;
  std::string there;
  for (const StoredDisk& disk : disks_) there += (there.empty() ? "" : ", ") + disk.name;
  throw Fault(FaultKind::usage, option + ": " + name + ": there is no such disk (there is " + there + ")");
}

}  // namespace nasbackup
