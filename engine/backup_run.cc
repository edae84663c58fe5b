// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What every backup has in common; see backup_run.h.
#include "engine/backup_run.h"

#include "crypto/key_wrap.h"
#include "crypto/random_source.h"
#include "engine/io/lifeline_state.h"
#include "engine/verification.h"
#include "engine/set/hex.h"
#include "formats/sealed_file.h"

namespace nasbackup {

namespace {

set::ManifestDigests digests_of(const std::string& image, const DigestSummary& summary) {
  const bool keyed = summary.kind == digests::Kind::gmac_aes_256;
  return {image + set::kDigestsSuffix, summary.file_size, keyed ? set::kDigestsGmac : set::kDigestsXxh3, summary.piece_size,
          set::to_hex(summary.root)};
}

}  // namespace

LockRefresher::LockRefresher(set::PartialSet& partial, std::function<void(std::exception_ptr)> on_lost)
    : thread_([this, &partial, lost = std::move(on_lost)](const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        while (!wake_.wait_for(lock, stop, set::kLockRefreshInterval, [&] { return stop.stop_requested(); })) {
          try {
            partial.refresh();
          } catch (const Fault& fault) {
            // A target that fails for the moment is tried again; only a lock that is somebody else's is lost.
            if (fault.kind() != FaultKind::locked) continue;
            lost(std::current_exception());
            return;
          }
        }
      }) {}

BackupRun::BackupRun(const BackupOptions& options, const JobControl& control)
    : options_(options),
      control_(control),
      lifeline_(control.lifeline ? control.lifeline : std::make_shared<Lifeline>()),
      keeps_nothing_(is_null_target(options.to)),
      transfer_(options, lifeline_->state(), control) {
  if (state().lock_fd < 0) throw Fault(FaultKind::failed, "backup: run it as root: it locks its run under /run/nasbackup");
}

void BackupRun::open_set() {
  if (keeps_nothing_) {
    claim_ = std::make_unique<set::VmClaim>(options_.vm, run_id(), kRunDirectory);
    return;
  }
  set::SetOptions options;
  options.dir = options_.to;
  const std::size_t slash = options_.set.find('/');
  options.vm = options_.set.empty() ? options_.vm : options_.set.substr(0, slash);
  if (slash != std::string::npos) options.name = options_.set.substr(slash + 1);
  options.open_to_all = options_.open_to_all;
  options.run_id = run_id();
  options.min_free = options_.min_free;
  options.note = [this](const std::string& line) { note(line); };
  options.stop = control_.stop;
  if (options_.encrypt) crypto::system_random().fill(set_key_.emplace(set::kSetKeyBytes).bytes());
  partial_ = set::PartialSet::begin(std::move(options), &state());
  refresher_ = std::make_unique<LockRefresher>(*partial_, [this](std::exception_ptr failure) { transfer_.fail(failure); });
}

void BackupRun::note(const std::string& line) const {
  if (control_.on_message) control_.on_message(line);
}

void BackupRun::warn(const std::string& line) { report_.warnings.push_back(line); }

void BackupRun::add_disk(set::ManifestDisk disk, SourcePlace source, const std::string& parent, const std::string& complaint) {
  const auto compression = compression_of(options_);
  const bool in_container = options_.encrypt && compression;
  disk.file = names_.next(disk.id, disk.order == 0, in_container ? ".qcow2.luks" : ".qcow2");
  transfers_.push_back({disk.name,
                        disk.source,
                        std::move(source),
                        {partial_ ? partial_->image_path(disk.file) : "null:", "qcow2", compression, nullptr,
                         partial_ ? partial_->image_path(disk.file + set::kDigestsSuffix) : "", false,
                         disk.parent_file.empty() ? "" : set::backing_name(parent, disk.parent_file)},
                        false,
                        complaint.empty() ? "" : complaint + disk.source});
  disks_.push_back(std::move(disk));
}

void BackupRun::add_file(const std::string& name, const std::string& content) {
  if (partial_) partial_->add_file(name, content);
}

void BackupRun::add_secret_file(const std::string& name, const std::string& content) {
  if (!partial_) return;
  if (!set_key_) return partial_->add_file(name, content);
  const std::string sealed_name = name + std::string(sealed::kSuffix);
  const auto file = sealed::seal(*set_key_, sealed_name, std::as_bytes(std::span(content)), crypto::system_random());
  partial_->add_file(sealed_name, {reinterpret_cast<const char*>(file.data()), file.size()});
}

void BackupRun::throw_if_stopped() const {
  if (control_.stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped");
}

void BackupRun::copy_disks() {
  report_.disks = transfer_.run(transfers_);
  report_.stretching_cpu_seconds = transfer_.stretching_cpu_seconds();
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    disks_[i].virtual_size = report_.disks[i].virtual_size;
    disks_[i].stored_bytes = report_.disks[i].stored_bytes;
    disks_[i].data_bytes = report_.disks[i].data_bytes;
    disks_[i].zero_bytes = report_.disks[i].zero_bytes;
    disks_[i].parent_bytes = report_.disks[i].parent_bytes;
    report_.disks[i].full_because = disks_[i].full_because;
    if (const auto& summary = transfer_.digests()[i]) disks_[i].digests = digests_of(disks_[i].file, *summary);
    if (const auto& key = transfer_.image_keys()[i]) disks_[i].luks_uuid = key->uuid();
  }
}

/// Who can open any of the images can get the set key, and check the manifest with it.
set::ManifestSeal BackupRun::seal() const {
  set::ManifestSeal seal;
  if (!set_key_) return seal;
  for (const auto& key : transfer_.image_keys())
    seal.keys.push_back(crypto::wrap_key(key->volume_key().bytes(), set::kSetKeyPurpose, *set_key_, crypto::system_random()));
  return seal;
}

/// As the verb verify would at any time, before anybody can see the set. The guest has been free for long.
void BackupRun::prove(const SetPlace& unpublished) {
  const auto began = std::chrono::steady_clock::now();
  JobControl control = control_;
  control.lifeline = lifeline_;
  std::vector<FileRead> files = let_set_go(unpublished.path, &state());
  const VerifyReport found = as_damage([&] {
    const StoredDisks stored(unpublished, transfer_.ring_for_written(), control);
    return Verification(options_, control, stored, {options_.verify, 1, {}, true}, std::move(files)).run();
  });
  throw_damage(found, control);
  for (const std::string& warning : found.warnings) warn(warning);
  for (std::size_t i = 0; i < disks_.size(); ++i)
    report_.disks[i].read_back = how_read(found, unpublished.path + "/" + disks_[i].file);
  if (const std::string line = cached_line(found); !line.empty()) warn(line);
  report_.verified = options_.verify;
  report_.verify_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

JobReport BackupRun::finish(set::Manifest manifest, double frozen_seconds) {
  throw_if_stopped();
  state().phase = "publishing";
  manifest.tool_version = version();
  report_.kind = manifest.kind;
  manifest.cluster_size = options_.cluster_size;
  if (!options_.compression.empty()) manifest.compression = to_string(*compression_of(options_));
  if (options_.encrypt) manifest.encryption = "luks";
  manifest.disks = disks_;
  manifest.warnings.insert(manifest.warnings.end(), report_.warnings.begin(), report_.warnings.end());
  manifest.seal = seal();
  const auto prove_it = [this](const std::string& path, const std::string& name) {
    if (options_.verify != VerifyLevel::none) prove({path, name}), state().phase = "publishing";
    if (before_publishing_) before_publishing_();
  };
  if (partial_) {
    report_.set = partial_->publish(std::move(manifest), set_key_ ? &*set_key_ : nullptr, prove_it);
    report_.set_bytes = partial_->bytes();
  }
  for (std::size_t i = 0; i < disks_.size(); ++i)
    report_.disks[i].image = partial_ ? report_.set + "/" + disks_[i].file : "null:";
  report_.frozen_seconds = frozen_seconds;
  report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  return std::move(report_);
}

}  // namespace nasbackup
