// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What every backup has in common, of a domain or of plain images: the claim on the name, the partial set with its lock kept
// fresh, the copying, the manifest, the publication. Used by one thread; nothing of it is left when it ends without publish().
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "crypto/secret.h"
#include "engine/nasbackup.h"
#include "engine/proven_set.h"
#include "engine/set/image_name.h"
#include "engine/set/partial_set.h"
#include "engine/transfer.h"

namespace nasbackup {

/// Keeps the lock on the target fresh for as long as it lives. A thread of its own, because the target may hang and nothing else
/// may wait for that.
class LockRefresher {
 public:
  explicit LockRefresher(set::PartialSet& partial, std::function<void(std::exception_ptr)> on_lost);

 private:
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it must not run before the rest is there
};

class BackupRun {
 public:
  BackupRun(const BackupOptions& options, const JobControl& control);

  const BackupOptions& options() const noexcept { return options_; }
  LifelineState& state() noexcept { return lifeline_->state(); }
  std::string run_id() const { return lifeline_->run_id(); }
  std::stop_token stop() const { return control_.stop; }
  const std::shared_ptr<Lifeline>& lifeline() const noexcept { return lifeline_; }
  const JobControl& control() const noexcept { return control_; }
  Transfer& transfer() noexcept { return transfer_; }

  /// Claims the name and makes the partial set; for the null target only the claim. Throws Fault.
  void open_set();
  /// A line for the user that is no warning.
  void note(const std::string& line) const;
  /// Something the user should know: the run ends as done_with_warnings.
  void warn(const std::string& line);
  /// Null for the null target.
  const set::PartialSet* partial() const noexcept { return partial_.get(); }
  /// Adds a disk to copy; its image gets the next name of the set. `disk.file` and the sizes are filled in here. `parent`: the
  /// name of the set on which it stands, when `disk.parent_file` is not empty. `complaint`: as in TransferDisk, before the disk's
  /// source.
  void add_disk(set::ManifestDisk disk, SourcePlace source, const std::string& parent = {}, const std::string& complaint = {});
  /// A small file beside the images.
  void add_file(const std::string& name, const std::string& content);
  /// One that may hold the guest's secrets: sealed, under a name that says so, when the images are encrypted.
  void add_secret_file(const std::string& name, const std::string& content);
  /// Throws Fault(interrupted) when the job was asked to stop.
  void throw_if_stopped() const;
  void copy_disks();
  /// The last thing before the set is published, once it is proven; what it throws fails the backup.
  void before_publishing(std::function<void()> what) { before_publishing_ = std::move(what); }
  /// Publishes the set (`manifest` with VM, consistency; this run's warnings are added to those that it has) and reports.
  JobReport finish(set::Manifest manifest, double frozen_seconds);

 private:
  set::ManifestSeal seal() const;
  void prove(const SetPlace& unpublished);

  const BackupOptions& options_;
  const JobControl& control_;
  std::shared_ptr<Lifeline> lifeline_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  bool keeps_nothing_;
  Transfer transfer_;
  set::ImageNames names_;
  std::vector<set::ManifestDisk> disks_;
  std::vector<TransferDisk> transfers_;
  std::function<void()> before_publishing_;
  std::optional<crypto::Secret> set_key_;  // of a set that is encrypted
  JobReport report_;
  std::unique_ptr<set::PartialSet> partial_;
  std::unique_ptr<set::VmClaim> claim_;  // of a run for the null target, which has no set
  std::unique_ptr<LockRefresher> refresher_;
};

}  // namespace nasbackup
