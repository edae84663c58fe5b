// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Catalogue; see catalogue.h.
#include "engine/set/catalogue.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <tuple>

#include "engine/io/fault.h"
#include "engine/set/set_name.h"
#include "engine/set/small_file.h"

namespace nasbackup::set {

namespace {

/// Hidden names are unfinished; a name that would give orders to a terminal is none of ours.
bool is_visible(const std::string& name) noexcept { return is_file_name(name); }
/// A compressed and encrypted image is a qcow2 in a LUKS container.
bool is_image(const std::string& name) noexcept { return name.ends_with(".qcow2") || name.ends_with(".qcow2.luks"); }

/// mke2fs makes it, root alone can read it.
bool is_lost_and_found(const std::string& name) noexcept { return name == "lost+found"; }

/// Visible regular files.
std::vector<CatalogueFile> files_in(const Directory& directory) {
  std::vector<CatalogueFile> files;
  for (const auto& name : directory.names()) {
    const auto status = is_visible(name) ? directory.stat(name) : std::nullopt;
    if (status && S_ISREG(status->st_mode)) files.push_back({name, static_cast<std::uint64_t>(status->st_size)});
  }
  return files;
}

/// Place of an image: as the manifest has it, then root.*, then the others by name.
auto image_rank(const CatalogueSet& set, const CatalogueFile& file) {
  std::size_t place = 0;
  if (set.manifest) {
    const auto& disks = set.manifest->disks;
    const auto is_it = [&](const ManifestDisk& disk) { return disk.file == file.name; };
    place = static_cast<std::size_t>(std::find_if(disks.begin(), disks.end(), is_it) - disks.begin());
  }
  return std::tuple(place, !file.name.starts_with("root."), file.name);
}

void sort_files(CatalogueSet& set) {
  std::sort(set.images.begin(), set.images.end(),
            [&](const auto& a, const auto& b) { return image_rank(set, a) < image_rank(set, b); });
  std::sort(set.files.begin(), set.files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
}

/// One line on how the files there differ from those in the manifest.
std::string differences(const CatalogueSet& set) {
  const auto size_of = [&](const std::string& name) -> std::optional<std::uint64_t> {
    for (const auto* files : {&set.images, &set.files}) {
      for (const auto& file : *files) {
        if (file.name == name) return file.size;
      }
    }
    return std::nullopt;
  };
  const auto differs = [&](const std::string& name, std::uint64_t size) -> std::string {
    const auto there = size_of(name);
    if (!there) return name + " is missing";
    return *there == size ? "" : name + " has " + std::to_string(*there) + " bytes, the manifest says " + std::to_string(size);
  };
  for (const auto& disk : set.manifest->disks) {
    if (auto text = differs(disk.file, disk.stored_bytes); !text.empty()) return text;
    if (auto text = differs(disk.digests.file, disk.digests.size); !text.empty()) return text;
  }
  for (const auto& file : set.manifest->files) {
    if (auto text = differs(file.name, file.size); !text.empty()) return text;
  }
  return {};
}

void read_manifest_of(const Directory& directory, CatalogueSet& set) {
  try {
    const auto file = read_small_file(directory, kManifestName, kMaxManifestSize);
    if (!file) return;
    set.manifest = read_manifest(file->content, directory.path_of(kManifestName));
    set.time = set.manifest->time;
    set.note = differences(set);
    set.damaged = !set.note.empty();
    if (set.note.empty() && set.manifest->set != set.name) set.note = "the manifest is that of set " + set.manifest->set;
  } catch (const Fault& fault) {
    set.note = fault.what();
    set.damaged = fault.kind() == FaultKind::damaged;
  }
}

/// The set in `directory`, or nothing when it is none.
std::optional<CatalogueSet> read_set(const Directory& directory, const std::string& vm, const std::string& name) {
  CatalogueSet set;
  set.path = directory.path();
  set.vm = vm;
  set.name = name;
  bool has_manifest = false;
  for (auto& file : files_in(directory)) {
    has_manifest = has_manifest || file.name == kManifestName;
    (is_image(file.name) ? set.images : set.files).push_back(std::move(file));
  }
  const auto time = SetName::parse(name);
  if (!has_manifest && (!time || set.images.empty())) return std::nullopt;
  if (time) set.time = time->rfc3339();
  if (has_manifest) read_manifest_of(directory, set);
  sort_files(set);
  return set;
}

struct Place {
  std::string parent;  ///< name of the directory it is in
  std::string name;
};

Place place_of(const std::string& path) {
  const auto slash = path.rfind('/');
  const auto before = slash == 0 || slash == std::string::npos ? slash : path.rfind('/', slash - 1);
  if (slash == std::string::npos || before == std::string::npos) return {"", path};
  return {path.substr(before + 1, slash - before - 1), path.substr(slash + 1)};
}

[[noreturn]] void not_a_set(const std::string& path) {
  throw Fault(FaultKind::not_found, path + ": neither a set nor a VM's directory with sets in it");
}

}  // namespace

std::uint64_t CatalogueSet::stored_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const auto* list : {&images, &files}) {
    for (const auto& file : *list) sum += file.size;
  }
  return sum;
}

std::vector<CatalogueSet> list_vm(const Directory& vm_directory, const std::string& vm) {
  std::vector<CatalogueSet> sets;
  for (const auto& name : vm_directory.names()) {
    const auto directory = is_visible(name) && !is_lost_and_found(name) ? vm_directory.find_child(name) : std::nullopt;
    if (!directory) continue;
    if (auto set = read_set(*directory, vm, name)) sets.push_back(std::move(*set));
  }
  std::sort(sets.begin(), sets.end(),
            [](const auto& a, const auto& b) { return std::tie(a.time, a.name) < std::tie(b.time, b.name); });
  return sets;
}

std::string real_path(const std::string& path, LifelineState* state) {
  TargetCall mark(state);
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  if (real == nullptr && (errno == ENOENT || errno == ENOTDIR)) throw Fault(FaultKind::not_found, path + ": not found");
  if (real == nullptr) throw_target_errno(errno, path, "cannot look at it");
  return real.get();
}

std::vector<CatalogueSet> list(const std::string& dir, LifelineState* state) {
  const auto root = Directory::open(dir, state);
  auto vms = root.names();
  std::sort(vms.begin(), vms.end());
  std::vector<CatalogueSet> sets;
  for (const auto& vm : vms) {
    const auto directory = is_visible(vm) && !is_lost_and_found(vm) ? root.find_child(vm) : std::nullopt;
    if (!directory) continue;
    for (auto& set : list_vm(*directory, vm)) sets.push_back(std::move(set));
  }
  return sets;
}

CatalogueSet find_set(const std::string& path, LifelineState* state) {
  const std::string real = real_path(path, state);
  const Place place = place_of(real);
  if (!is_visible(place.name)) not_a_set(path);
  struct stat status {};
  {
    TargetCall mark(state);
    if (::stat(real.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) not_a_set(path);
  }
  const auto directory = Directory::open(real, state);
  if (auto set = read_set(directory, place.parent, place.name)) return std::move(*set);
  auto sets = list_vm(directory, place.name);
  if (sets.empty()) not_a_set(path);
  return std::move(sets.back());
}

bool is_set(const std::string& path, LifelineState* state) {
  try {
    find_set(path, state);
    return true;
  } catch (const Fault& fault) {
    if (fault.kind() == FaultKind::not_found) return false;
    throw;
  }
}

}  // namespace nasbackup::set
