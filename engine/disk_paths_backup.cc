// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See disk_paths_backup.h.
#include "engine/disk_paths_backup.h"

#include <sys/stat.h>

#include <deque>
#include <filesystem>

#include "engine/io/bitmap_seed.h"
#include "engine/io/drbd_device.h"
#include "engine/io/image_probe.h"
#include "engine/io/lifeline_state.h"
#include "engine/stopped_domain.h"
#include "formats/qcow2_format.h"

namespace nasbackup {

namespace {

constexpr std::size_t kMostLayers = 8;

[[noreturn]] void refuse(const std::string& path, const std::string& what) { throw Fault(FaultKind::source, path + ": " + what); }

/// What one of the paths is, and what it stands on.
class DiskPath {
 public:
  DiskPath(BackupRun& run, std::string path) : run_(run), path_(std::move(path)) {}

  SourcePlace place() {
    SourcePlace place{path_, "raw"};
    place.plaintext_allowed = run_.options().allow_plaintext;
    if (is_rbd() || is_device(path_)) return place;
    const ImageBytes bytes(path_, &run_.state());
    const ProbedImage image = probe_image(bytes);
    if (image.format == ImageFormat::luks || image.header.crypt_method != qcow2::kCryptNone) refuse_plaintext();
    if (image.format == ImageFormat::luks && !run_.options().source_keys.empty()) place.format = "luks";
    if (image.format != ImageFormat::qcow2) return place;
    place.format = "qcow2";
    place.backing = {chain_of(image.header), true};
    return place;
  }

  std::string source_type() const { return is_rbd() ? "network" : is_device_ ? "block" : "file"; }

 private:
  bool is_rbd() const { return path_.starts_with("rbd:"); }

  bool is_device(const std::string& path) {
    const TargetCall mark(&run_.state());
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) refuse(path, std::strerror(errno));
    if (!S_ISBLK(status.st_mode) && !S_ISREG(status.st_mode)) refuse(path, "neither a file nor a block device");
    return is_device_ = S_ISBLK(status.st_mode);
  }

  void refuse_plaintext() const {
    const BackupOptions& options = run_.options();
    if (!options.encrypt && !options.allow_plaintext) refuse(path_, "is encrypted, and the backup would not be");
  }

  /// The files that the image stands on. Every one must be a regular file in the same directory, which is a storage pool's.
  std::vector<BackingPlace> chain_of(const qcow2::HeaderFacts& top) const {
    std::vector<BackingPlace> chain;
    qcow2::HeaderFacts header = top;
    std::string child = path_;
    while (!header.backing_file.empty()) {
      if (chain.size() + 1 == kMostLayers) refuse(path_, "stands on more than 7 files");
      const std::string name = beside(child, header.backing_file);
      if (header.backing_format != "qcow2" && header.backing_format != "raw")
        refuse(child, "its header names '" + header.backing_format + "' as the format of " + name + ": neither qcow2 nor raw");
      chain.push_back({name, header.backing_format});
      child = name;
      if (header.backing_format == "raw") break;
      const ProbedImage image = probe_image(ImageBytes(name, &run_.state()));
      if (image.format != ImageFormat::qcow2) refuse(name, "is no qcow2");
      header = image.header;
    }
    return chain;
  }

  std::string beside(const std::string& child, const std::string& name) const {
    namespace fs = std::filesystem;
    const fs::path folder = fs::path(child).parent_path();
    const fs::path path = fs::path(name).is_absolute() ? fs::path(name) : folder / name;
    const TargetCall mark(&run_.state());
    std::error_code error;
    const fs::path real = fs::canonical(path, error), pool = fs::canonical(fs::path(path_).parent_path(), error);
    if (error) refuse(child, "stands on " + name + ": " + error.message());
    if (!fs::is_regular_file(real, error) || real.parent_path() != pool)
      refuse(child, "stands on " + name + ", which is no file of the same storage pool");
    return real.string();
  }

  BackupRun& run_;
  const std::string path_;
  bool is_device_ = false;
};

struct Disk {
  set::ManifestDisk entry;
  SourcePlace place;
};

std::vector<Disk> look_at(BackupRun& run, const std::vector<std::string>& paths) {
  std::vector<Disk> disks;
  for (const std::string& path : paths) {
    DiskPath disk(run, path);
    SourcePlace place = disk.place();
    set::ManifestDisk entry;
    entry.order = disks.size();
    entry.name = "disk" + std::to_string(disks.size());
    entry.id = set::disk_id(is_drbd_device(path) ? drbd_resource_path(path) : path);
    entry.source = location_for_people(path);
    entry.source_type = disk.source_type();
    entry.has_bitmap = !run.options().stopped_bitmap.empty() && place.format == "qcow2";
    disks.push_back({std::move(entry), std::move(place)});
  }
  return disks;
}

/// The images are locked from here on until the bitmaps stand and the backup is published.
class BitmapSeeds {
 public:
  BitmapSeeds(BackupRun& run, const std::vector<Disk>& disks) {
    const std::string& bitmap = run.options().stopped_bitmap;
    for (const Disk& disk : disks)
      if (!bitmap.empty() && disk.place.format == "qcow2") seeds_.emplace_back(disk.place.location, bitmap, &run.state());
    run.before_publishing([this] {
      for (BitmapSeed& seed : seeds_) seed.add();
    });
  }
  void keep() noexcept {
    for (BitmapSeed& seed : seeds_) seed.keep();
  }

 private:
  std::deque<BitmapSeed> seeds_;
};

}  // namespace

JobReport backup_disk_paths(BackupRun& run) {
  const std::vector<std::string>& paths = *run.options().stopped_disks;
  if (paths.empty()) throw Fault(FaultKind::source, run.options().vm + ": does not run, and no disk paths were given");
  std::vector<Disk> disks = look_at(run, paths);
  run.open_set();
  BitmapSeeds seeds(run, disks);
  for (Disk& disk : disks) run.add_disk(std::move(disk.entry), std::move(disk.place), {}, "Failed to convert disk ");
  copy_while_stopped(run);
  set::Manifest manifest;
  manifest.vm_name = run.options().vm;
  manifest.checkpoint = run.options().stopped_bitmap;  // an increment can stand on it when the VM runs
  JobReport report = run.finish(std::move(manifest), 0);
  seeds.keep();
  return report;
}

}  // namespace nasbackup
