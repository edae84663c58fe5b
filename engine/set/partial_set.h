// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A set while it is written: DIR/VM/.partial-<run id>, with the set's name behind it when that was given, which nobody lists,
// until publish() renames it to its name. The order (ARCHITECTURE.md, "What we write", 6): manifest last, fsync of every file and
// of the directory, descriptors closed, rename, fsync of the parent. Whatever ends it otherwise, the next run for this VM removes
// what is left.
//
// Used by one thread, except for refresh(), which the job's ticker calls every kLockRefreshInterval from its own. Blocking:
// each call on the target is marked on the lifeline.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/lifeline_state.h"
#include "engine/io/run_lock.h"
#include "engine/set/directory.h"
#include "engine/set/manifest.h"
#include "engine/set/set_name.h"
#include "engine/set/target_lock.h"
#include "engine/set/vm_claim.h"

namespace nasbackup::set {

struct SetOptions {
  std::string dir;           ///< the target; must exist
  std::string vm;            ///< becomes the directory in it
  std::string run_id;        ///< of the Lifeline, whose lock must be held
  std::string name;          ///< of the set's directory; empty: the second in which it begins, or the next that is free
  bool open_to_all = false;  ///< files of mode 0644 and directories of mode 0755; else 0600 and 0700
  std::uint64_t min_free = 1ull << 30;
  std::function<void(const std::string&)> note;  ///< lines for the user that are no warnings; may be empty
  std::stop_token stop;                          ///< ends the waiting in begin()
  std::string run_directory = kRunDirectory;
  std::chrono::milliseconds lock_stale_after{600'000};
  std::chrono::milliseconds lock_watch{70'000};
  std::chrono::milliseconds rename_patience{10'000};
};

/// DIR/VM, made when it is missing, and taken away again when it was made here and nothing came of it.
class VmDirectory {
 public:
  VmDirectory(const Directory& root, const std::string& vm);
  ~VmDirectory();
  VmDirectory(const VmDirectory&) = delete;
  VmDirectory& operator=(const VmDirectory&) = delete;

  const Directory& operator*() const noexcept { return *directory_; }
  const Directory* operator->() const noexcept { return &*directory_; }

 private:
  const Directory& root_;
  std::string name_;
  bool made_;
  std::optional<Directory> directory_;
};

class PartialSet {
 public:
  /// Claims the VM on this host and on the target, removes what dead runs left, looks whether min_free is there, chooses
  /// the name and makes the partial directory. Throws Fault: locked, target_full, usage, not_found (no such target),
  /// interrupted, failed; nothing of ours is left on the target then.
  static std::unique_ptr<PartialSet> begin(SetOptions options, LifelineState* state);
  /// discard(), unless published.
  ~PartialSet();
  PartialSet(const PartialSet&) = delete;
  PartialSet& operator=(const PartialSet&) = delete;

  /// The second it is named after, where its name was not given; publish() takes a later one when somebody else made a directory
  /// of that name.
  const SetName& name() const noexcept { return name_; }
  /// Where to write an image of that name. Its writer makes it with O_EXCL | O_NOFOLLOW, mode 0600, and closes it.
  std::string image_path(const std::string& file_name) const;
  /// Writes a small file; it is on the disk when this returns. Throws Fault(target_full) or Fault(failed).
  void add_file(const std::string& name, std::string_view content);

  /// The target, and DIR/VM, whose lock it holds.
  const Directory& root() const noexcept { return root_; }
  const Directory& vm() const noexcept { return *vm_; }

  /// TargetLock::refresh().
  void refresh() { lock_.refresh(); }

  /// Makes it a set and returns its path. The caller fills in the manifest's kind, consistency, VM, disks (stored_bytes
  /// and digests.size may be 0), options, warnings and the seal's keys; set, run, files and a time that is empty
  /// are filled in here, from what is in the directory. `set_key`: of a set that is encrypted. On a Fault nothing is published.
  /// `prove` is told where the set lies when all of it but its name is there, and the name that it will have; it may throw.
  using Prove = std::function<void(const std::string& path, const std::string& name)>;
  std::string publish(Manifest manifest, const crypto::Secret* set_key = nullptr, const Prove& prove = {});

  /// Of all files of the set that was published.
  std::uint64_t bytes() const noexcept { return bytes_; }

  /// Removes it. What cannot be removed now is left to the next run's sweep.
  void discard() noexcept;

 private:
  PartialSet(SetOptions options, LifelineState* state);
  LockOptions lock_options() const;
  void take_name();
  void open_partial();
  std::string directory_name() const { return options_.name.empty() ? name_.text() : options_.name; }
  void take_next_name();
  void mark_partial(bool there) const noexcept;
  std::optional<mode_t> file_mode() const;
  void open_directories() const;
  void sync_files(Manifest& manifest) const;
  std::string write_manifest_file(Manifest& manifest, const crypto::Secret* set_key);
  void sync_directory(const Directory& directory) const;
  std::uint64_t bytes_with(const Manifest& manifest) const noexcept;

  SetOptions options_;
  VmClaim claim_;
  Directory root_;
  VmDirectory vm_;
  TargetLock lock_;
  std::string partial_name_;
  std::optional<Directory> partial_;  ///< closed (empty) from the rename on
  SetName name_;                      ///< the second this set is named after, or in which it began
  std::string manifest_text_;
  std::map<std::string, std::string> sha256_;  ///< of what add_file() was given, by name
  std::uint64_t bytes_ = 0;
  bool open_ = false;  ///< there is a partial directory to publish or discard
};

}  // namespace nasbackup::set
