// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Partial set; see partial_set.h.
#include "engine/set/partial_set.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/io/fault.h"
#include "engine/set/free_space.h"
#include "engine/set/publication.h"
#include "engine/set/small_file.h"
#include "engine/set/sweep.h"
#include "engine/set/vm_name.h"

namespace nasbackup::set {

namespace {

constexpr char kTarget[] = "backup target";

SetOptions checked(SetOptions options) {
  check_vm_name(options.vm);
  if (!options.name.empty() && !is_file_name(options.name))
    throw Fault(FaultKind::usage, "set: not a name for a directory: '" + options.name + "'");
  if (!is_run_id(options.run_id)) throw Fault(FaultKind::usage, "run id: not 16 hexadecimal digits: '" + options.run_id + "'");
  return options;
}

/// Before anything is made on the target: is there room, or at least something of a dead run's that a sweep would free?
const Directory& with_room(const Directory& root, const SetOptions& options) {
  const auto vm = root.find_child(options.vm);
  const bool sweep_may_help = vm && has_leftovers(*vm, options.run_id);
  if (!sweep_may_help) check_free_space(root, options.min_free, kTarget);
  return root;
}

}  // namespace

VmDirectory::VmDirectory(const Directory& root, const std::string& vm) : root_(root), name_(vm), made_(root.make_child(vm)) {
  directory_ = root.open_child(vm);  // refuses a symbolic link
}

VmDirectory::~VmDirectory() {
  directory_.reset();
  if (made_) root_.try_remove_directory(name_);  // stays when there is a set in it
}

std::unique_ptr<PartialSet> PartialSet::begin(SetOptions options, LifelineState* state) {
  return std::unique_ptr<PartialSet>(new PartialSet(checked(std::move(options)), state));
}

PartialSet::PartialSet(SetOptions options, LifelineState* state)
    : options_(std::move(options)),
      claim_(options_.vm, options_.run_id, options_.run_directory),
      root_(Directory::open(options_.dir, state)),
      vm_(with_room(root_, options_), options_.vm),
      lock_(*vm_, lock_options()),
      partial_name_(kPartialPrefix + options_.run_id + (options_.name.empty() ? "" : "." + options_.name)),
      name_(SetName::now()) {
  sweep(*vm_, {options_.run_id, options_.run_directory, lock_.now_on_target(), options_.lock_stale_after, options_.note});
  check_free_space(root_, options_.min_free, kTarget);
  take_name();
  open_partial();
}

PartialSet::~PartialSet() { discard(); }

LockOptions PartialSet::lock_options() const {
  return {options_.run_id, options_.run_directory, options_.note, options_.stop, options_.lock_stale_after, options_.lock_watch};
}

void PartialSet::take_name() {
  if (options_.name.empty())
    name_ = wait_for_free_name(*vm_, options_.stop);
  else if (vm_->stat(options_.name))
    throw Fault(FaultKind::failed, vm_->path_of(options_.name) + ": is there already");
}

void PartialSet::take_next_name() {
  if (!options_.name.empty())
    throw Fault(FaultKind::failed, vm_->path_of(options_.name) + ": somebody else has made it meanwhile");
  name_ = name_.next_second();
}

void PartialSet::mark_partial(bool there) const noexcept {
  if (vm_->state() != nullptr) vm_->state()->partial_set = there;
}

void PartialSet::open_partial() {
  mark_partial(true);
  try {
    if (!vm_->make_child(partial_name_)) throw Fault(FaultKind::failed, vm_->path_of(partial_name_) + ": is there already");
    partial_ = vm_->open_child(partial_name_);
  } catch (...) {
    const int error = vm_->try_remove_directory(partial_name_);
    mark_partial(error != 0 && error != ENOENT);
    throw;
  }
  open_ = true;
}

std::string PartialSet::image_path(const std::string& file_name) const {
  assert(partial_);
  return partial_->path_of(file_name);
}

void PartialSet::add_file(const std::string& name, std::string_view content) {
  assert(partial_);
  if (!is_file_name(name) || name == kManifestName) throw Fault(FaultKind::usage, "set: not a file name: '" + name + "'");
  write_new_file(*partial_, name, content, OnDisk::later);  // publish() sees to it
  sha256_[name] = sha256_of(content);
}

void PartialSet::open_directories() const {
  for (const Directory* directory : {&*partial_, &*vm_}) {
    TargetCall mark(directory->state());
    if (::fchmod(directory->fd(), 0755) != 0) throw_target_errno(errno, directory->path(), "cannot change its mode");
  }
}

/// Every file on the disk, every image of the manifest and its digests there, every other file in the manifest.
void PartialSet::sync_files(Manifest& manifest) const {
  auto names = partial_->names();
  std::sort(names.begin(), names.end());
  const auto sync_large = [&](const std::string& name, std::uint64_t& size) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) throw Fault(FaultKind::failed, partial_->path_of(name) + ": is missing");
    names.erase(found);
    const std::uint64_t written = std::exchange(size, sync_file(*partial_, name, file_mode()));
    if (written != 0 && written != size)
      throw Fault(FaultKind::failed, partial_->path_of(name) + ": has " + std::to_string(size) + " bytes, " +
                                         std::to_string(written) + " were written");
  };
  for (auto& disk : manifest.disks) {
    sync_large(disk.file, disk.stored_bytes);
    sync_large(disk.digests.file, disk.digests.size);
  }
  manifest.files.clear();
  for (const auto& name : names) {
    const std::uint64_t size = sync_file(*partial_, name, file_mode());
    const auto known = sha256_.find(name);
    manifest.files.push_back({name, size, known != sha256_.end() ? known->second : file_sha256(*partial_, name, size)});
  }
}

std::uint64_t PartialSet::bytes_with(const Manifest& manifest) const noexcept {
  std::uint64_t sum = manifest_text_.size();
  for (const ManifestDisk& disk : manifest.disks) sum += disk.stored_bytes + disk.digests.size;
  for (const ManifestFile& file : manifest.files) sum += file.size;
  return sum;
}

std::string PartialSet::write_manifest_file(Manifest& manifest, const crypto::Secret* set_key) {
  manifest.set = directory_name();
  manifest.run = options_.run_id;
  std::string text = write_manifest(manifest, set_key);
  read_manifest(text, partial_->path_of(kManifestName));  // nothing is published that a reader would refuse
  write_new_file(*partial_, kManifestName, text, OnDisk::later);
  sync_file(*partial_, kManifestName, file_mode());
  return text;
}

void PartialSet::sync_directory(const Directory& directory) const {
  if (directory.sync() || !options_.note) return;
  options_.note(directory.path() + ": this file system cannot fsync a directory; the server decides when names are on disk");
}

std::optional<mode_t> PartialSet::file_mode() const { return options_.open_to_all ? std::optional<mode_t>(0644) : std::nullopt; }

std::string PartialSet::publish(Manifest manifest, const crypto::Secret* set_key, const Prove& prove) {
  assert(open_ && partial_);
  sync_files(manifest);
  const bool begun_now = manifest.time.empty();
  if (options_.open_to_all) open_directories();
  for (bool proven = false;; proven = true) {
    if (options_.name.empty()) name_ = first_free_name(*vm_, name_);
    if (begun_now) manifest.time = name_.rfc3339();
    manifest_text_ = write_manifest_file(manifest, set_key);
    sync_directory(*partial_);
    if (prove && !proven) prove(partial_->path(), directory_name());
    lock_.refresh();  // whoever took us for dead may be writing the next set now
    partial_.reset();
    const auto moved = move_into_place(*vm_, partial_name_, directory_name(), manifest_text_, options_.rename_patience);
    if (moved == Moved::done) break;
    partial_ = vm_->open_child(partial_name_);
    partial_->try_remove_file(kManifestName);
    take_next_name();
  }
  sync_directory(*vm_);
  open_ = false;
  bytes_ = bytes_with(manifest);
  if (vm_->state() != nullptr) vm_->state()->published_set = true;
  mark_partial(false);
  return vm_->path_of(directory_name());
}

void PartialSet::discard() noexcept {
  if (!open_) return;
  open_ = false;
  partial_.reset();
  int error = remove_aside(*vm_, partial_name_, options_.run_id);
  // Nothing is there when a publishing rename that was called failed has been carried out after all.
  if (error == ENOENT && is_published(*vm_, directory_name(), manifest_text_))
    error = remove_aside(*vm_, directory_name(), options_.run_id);
  mark_partial(error != 0 && error != ENOENT);
  try {
    if (error != 0 && options_.note)
      options_.note(vm_->path_of(partial_name_) + ": not removed, the next run will: " + std::strerror(error));
  } catch (const std::exception&) {
    return;  // a note is not worth more
  }
}

}  // namespace nasbackup::set
