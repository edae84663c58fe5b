// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See deletion.h.
#include "engine/set/deletion.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include <fmt/format.h>

#include "engine/io/base_name.h"
#include "engine/io/fault.h"
#include "engine/set/chain.h"
#include "engine/set/directory.h"
#include "engine/set/set_name.h"
#include "engine/set/sweep.h"
#include "engine/set/target_lock.h"
#include "engine/set/vm_claim.h"

namespace nasbackup::set {

namespace {

[[noreturn]] void refuse(FaultKind kind, const std::string& path, const std::string& what) {
  throw Fault(kind, path + ": " + what);
}

/// DIR/VM, without links, and the name in it.
struct Place {
  std::string vm_path;
  std::string vm;
  std::string name;
};

Place place_of(std::string path, LifelineState* state) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const auto slash = path.rfind('/');
  Place place;
  place.name = path.substr(slash + 1);
  if (!is_file_name(place.name)) refuse(FaultKind::usage, path, "write the directory of one set: DIR/VM/NAME");
  place.vm_path = real_path(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash), state);
  place.vm = base_name(place.vm_path);
  return place;
}

bool has_manifest_file(const CatalogueSet& set) {
  return std::any_of(set.files.begin(), set.files.end(), [](const CatalogueFile& file) { return file.name == kManifestName; });
}

/// Which sets go, and whether they may.
class Choice {
 public:
  Choice(const Directory& vm, const Place& place, const DeletionOptions& options)
      : vm_(vm), place_(place), options_(options), sets_(list_vm(vm, place.vm)), chains_(sets_) {}

  /// Leaves first.
  std::vector<CatalogueSet> make() const {
    const CatalogueSet& wanted = find();
    refuse_what_is_not_ours(wanted);
    std::vector<const CatalogueSet*> chosen = chains_.above(wanted);
    if (!chosen.empty() && !options_.with_children)
      refuse(FaultKind::failed, wanted.path, needed_by(chosen) + "; write --with-children to delete them too");
    chosen.push_back(&wanted);
    refuse_doubt(chosen);
    std::vector<CatalogueSet> sets;
    for (const CatalogueSet* set : chosen) {
      refuse_directories_in(*set);
      sets.push_back(*set);
    }
    return sets;
  }

  /// What was seen of every set, as far as it counts here.
  using Seen = std::vector<std::tuple<std::string, bool, std::string>>;
  Seen seen() const {
    Seen seen;
    for (const CatalogueSet& set : sets_)
      seen.emplace_back(set.name, has_manifest_file(set), set.manifest && set.manifest->parent ? set.manifest->parent->set : "");
    return seen;
  }

 private:
  const CatalogueSet& find() const {
    for (const CatalogueSet& set : sets_)
      if (set.name == place_.name) return set;
    const auto directory = vm_.find_child(place_.name);
    if (directory && !list_vm(*directory, place_.name).empty())
      refuse(FaultKind::usage, directory->path(), "is a VM's directory; write that of one set: DIR/VM/NAME");
    const auto status = vm_.stat(place_.name);
    const char* what = !status                    ? "not found"
                       : S_ISLNK(status->st_mode) ? "is a symbolic link, which is not followed"
                                                  : "is no set";
    refuse(FaultKind::not_found, vm_.path_of(place_.name), what);
  }

  void refuse_what_is_not_ours(const CatalogueSet& set) const {
    if (!has_manifest_file(set)) refuse(FaultKind::failed, set.path, "has no manifest.json: nasbackup did not write it");
    if (set.manifest) return;
    if (!SetName::parse(set.name)) refuse(FaultKind::failed, set.path, "is no set of nasbackup's: " + set.note);
    if (!options_.force) refuse(FaultKind::failed, set.path, "write --force to delete it all the same: " + set.note);
  }

  std::string needed_by(const std::vector<const CatalogueSet*>& others) const {
    constexpr std::size_t kShown = 5;
    std::string names;
    for (std::size_t i = 0; i < std::min(kShown, others.size()); ++i) names += (i == 0 ? "" : ", ") + others[i]->name;
    if (others.size() > kShown) names += fmt::format(" and {} more", others.size() - kShown);
    return fmt::format("{} stand{} on it", names, others.size() == 1 ? "s" : "");
  }

  /// A manifest that cannot be read may name any parent.
  void refuse_doubt(const std::vector<const CatalogueSet*>& chosen) const {
    if (options_.force) return;
    for (const CatalogueSet& set : sets_)
      if (!set.manifest && has_manifest_file(set) && std::find(chosen.begin(), chosen.end(), &set) == chosen.end())
        refuse(FaultKind::failed, chosen.back()->path,
               set.name + " may stand on it; write --force to delete it all the same: " + set.note);
  }

  void refuse_directories_in(const CatalogueSet& set) const {
    const Directory directory = vm_.open_child(set.name);
    for (const std::string& name : directory.names())
      if (const auto status = directory.stat(name); status && S_ISDIR(status->st_mode))
        refuse(FaultKind::failed, directory.path_of(name), "a directory within a set is none of ours; remove it first");
  }

  const Directory& vm_;
  const Place& place_;
  const DeletionOptions& options_;
  const std::vector<CatalogueSet> sets_;
  const Chains chains_;
};

/// Hidden names that a sweep knows, as many as are needed: the run's id and those that follow it.
std::string aside_name(const std::string& run_id, std::uint64_t number) {
  std::uint64_t id = 0;
  std::from_chars(run_id.data(), run_id.data() + run_id.size(), id, 16);
  return kDeletingPrefix + fmt::format("{:016x}", id + number);
}

class Deletion {
 public:
  Deletion(const Directory& vm, const DeletionOptions& options) : vm_(vm), options_(options) {}

  void run(TargetLock& lock, const std::vector<CatalogueSet>& sets) {
    try {
      for (const CatalogueSet& set : sets) {
        if (options_.stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped");
        lock.refresh();  // whoever took us for dead may be writing an increment of it now
        put_aside(set.name);
      }
    } catch (...) {
      remove_asides();
      throw;
    }
    remove_asides();
    vm_.sync();
  }

 private:
  void put_aside(const std::string& name) {
    const std::string aside = aside_name(options_.run_id, asides_.size());
    const int error = vm_.try_rename(name, aside);
    // The answer of a rename that happened can get lost.
    if (error != 0 && (vm_.stat(name) || !vm_.stat(aside))) throw_target_errno(error, vm_.path_of(name), "cannot be deleted");
    asides_.push_back(aside);
    vm_.sync();
  }

  void remove_asides() const noexcept {
    for (const std::string& aside : asides_) {
      const int error = try_remove_flat_tree(vm_, aside);
      if (error != 0) note_left(aside, error);
    }
  }

  void note_left(const std::string& aside, int error) const noexcept {
    try {
      if (options_.warn) options_.warn(vm_.path_of(aside) + ": not removed yet, the next run will: " + std::strerror(error));
    } catch (const std::exception&) {
      return;  // a line is not worth more
    }
  }

  const Directory& vm_;
  const DeletionOptions& options_;
  std::vector<std::string> asides_;
};

}  // namespace

std::vector<CatalogueSet> delete_sets(const DeletionOptions& options, LifelineState* state) {
  const Place place = place_of(options.path, state);
  const Directory vm = Directory::open(place.vm_path, state);
  const Choice first(vm, place, options);
  std::vector<CatalogueSet> sets = first.make();  // what is refused is refused before anything is locked
  if (options.dry_run) return sets;
  const VmClaim claim(place.vm, options.run_id, options.run_directory);
  TargetLock lock(vm, {options.run_id, options.run_directory, options.note, options.stop});
  sweep(vm, {options.run_id, options.run_directory, lock.now_on_target(), LockOptions{}.stale_after, options.note});
  const Choice second(vm, place, options);
  sets = second.make();
  // A network file system may for a moment not show what is there, and that may be a child.
  if (second.seen() != first.seen()) refuse(FaultKind::failed, vm.path(), "the sets there changed meanwhile; try again");
  Deletion(vm, options).run(lock, sets);
  return sets;
}

}  // namespace nasbackup::set
