// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::convert: one image to another through the pipeline.
#include <sys/stat.h>

#include <chrono>
#include <optional>

#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/io/new_file.h"
#include "engine/io/run_lock.h"
#include "engine/nasbackup.h"
#include "engine/passphrase.h"
#include "engine/storage_keys.h"
#include "engine/transfer.h"
#include "engine/translate_faults.h"
#include "engine/verification.h"

namespace nasbackup {

namespace {

void check_formats(const ConvertOptions& options) {
  check_source_format(options.source_format);
  if (options.target_format != "qcow2" && options.target_format != "raw" && options.target_format != "luks")
    throw Fault(FaultKind::usage, "-O " + options.target_format + ": write -O qcow2, -O raw or -O luks");
  if (options.target_format == "luks" && !options.encrypt)
    throw Fault(FaultKind::usage, "-O luks: needs a passphrase: write -e FILE too");
  if (options.target_format == "raw" && options.encrypt)
    throw Fault(FaultKind::usage, "--encrypt: -O raw cannot hold it: write -O luks for a raw disk in a LUKS container");
  if (!options.compression.empty() && options.target_format != "qcow2")
    throw Fault(FaultKind::usage, "--compress: -O " + options.target_format + " cannot hold it: write -O qcow2, or leave -c out");
}

bool is_device(const std::string& path, LifelineState& lifeline) {
  const TargetCall mark(&lifeline);
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
}

/// Two names of one place in one cluster, as far as names can tell.
bool same_image(const std::string& a, const std::string& b) {
  return is_rbd_location(a) && is_rbd_location(b) && location_for_people(a) == location_for_people(b);
}

void check_places(const ConvertOptions& options) {
  if (same_image(options.source, options.target))
    throw Fault(FaultKind::usage, location_for_people(options.target) + ": is the source too");
  if (is_rbd_location(options.target) && options.target_format == "qcow2")
    throw Fault(FaultKind::usage, location_for_people(options.target) + ": a qcow2 cannot grow there; write -O raw");
}

/// Where the image is written until it is whole, and how it gets its name then. What is written in place has one.
class Destination {
 public:
  Destination(const ConvertOptions& options, LifelineState& state) : place_(options.target) {
    if (is_rbd_location(options.target)) {
      rbd_ = begin_rbd_target(options.target, options.force, {rbd_keys_of(options.storage_keys), options.io_timeout, &state});
      place_ = rbd_->location();
    } else if (!is_remote(options.target) && !is_null_target(options.target) && !is_device(options.target, state)) {
      const auto alive = [](const std::string& run_id) { return run_is_alive(run_id); };
      file_.emplace(options.target, options.force, state, alive);
      place_ = file_->hidden_path();
    }
  }

  TargetPlace place(const ConvertOptions& options, const std::string& digests) const {
    return {place_, options.target_format, compression_of(options), nullptr, digests, rbd_ && rbd_->is_new()};
  }
  /// There is no new file beside which others may lie.
  bool in_place() const noexcept { return !file_; }
  void publish() {
    if (file_) file_->publish();
    if (rbd_) rbd_->publish();
  }

 private:
  std::string place_;
  std::optional<NewFile> file_;
  std::unique_ptr<RbdTargetImage> rbd_;
};

void check_verify(const ConvertOptions& options) {
  if (options.verify == VerifyLevel::none) return;
  if (is_null_target(options.target)) throw Fault(FaultKind::usage, "--verify: null: keeps nothing that could be read back");
  if (options.verify == VerifyLevel::metadata && options.target_format == "raw")
    throw Fault(FaultKind::usage, "--verify=metadata: a raw image has none: write --verify=data");
  if (options.target_format == "luks" && is_remote(options.target))
    throw Fault(FaultKind::usage, "--verify: a LUKS container on a server cannot be read back: leave one of them out");
}

HiddenFile hidden_digests(const ConvertOptions& options, bool in_place, LifelineState& state) {
  const auto alive = [](const std::string& run_id) { return run_is_alive(run_id); };
  return {in_place ? temporary_file() : options.target + ".digests", state, alive};
}

void rename_in(std::string& text, const std::string& from, const std::string& to) {
  if (const std::size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

/// Reads back what was written, before it gets its name.
void prove(const ConvertOptions& options, const TransferDisk& written, bool in_place, Transfer& transfer, JobReport& report,
           const JobControl& control) {
  const auto began = std::chrono::steady_clock::now();
  DiskReport& disk = report.disks.front();
  StoredDisk image{written.name, written.name, written.target.location, written.target.format, disk.stored_bytes, std::nullopt};
  if (in_place) image.virtual_size = disk.virtual_size;
  std::optional<WrittenDigests> digests;
  if (const auto& summary = transfer.digests().front()) {
    const auto& key = transfer.image_keys().front();
    digests = {written.target.digests, summary->root, key ? &key->volume_key() : nullptr};
  }
  VerifyReport found = as_damage([&] {
    const StoredDisks stored(image, digests, transfer.ring_for_written(), control);
    return Verification(options, control, stored, {options.verify, 1, {}, true}).run();
  });
  // Nobody knows its hidden name.
  const std::string shown = location_for_people(options.target);
  for (Damage& damage : found.damage) rename_in(damage.file, image.path, shown), rename_in(damage.what, image.path, shown);
  for (FileRead& file : found.files) rename_in(file.path, image.path, shown);
  for (std::string& warning : found.warnings) rename_in(warning, image.path, shown);
  throw_damage(found, control);
  report.warnings = found.warnings;
  if (const std::string line = cached_line(found); !line.empty()) report.warnings.push_back(line);
  disk.read_back = how_read(found, shown);
  report.verified = options.verify;
  report.verify_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

JobReport convert_one(ConvertOptions options, JobControl control) {
  check_formats(options);
  check_encryption(options);
  check_verify(options);
  options.source = without_key(std::move(options.source), options.storage_keys);
  options.target = without_key(std::move(options.target), options.storage_keys);
  check_places(options);
  const auto began = std::chrono::steady_clock::now();
  if (!control.lifeline) control.lifeline = std::make_shared<Lifeline>();
  LifelineState& state = control.lifeline->state();
  Destination destination(options, state);
  const HiddenFile digests = hidden_digests(options, destination.in_place(), state);
  Transfer transfer(options, state, control);
  const TransferDisk disk{"disk0",
                          location_for_people(options.source),
                          {options.source, options.source_format, options.shared_source},
                          destination.place(options, options.verify == VerifyLevel::data ? digests.path() : "")};
  JobReport report;
  report.disks = transfer.run({disk});
  report.stretching_cpu_seconds = transfer.stretching_cpu_seconds();
  if (options.verify != VerifyLevel::none) prove(options, disk, destination.in_place(), transfer, report, control);
  state.phase = "publishing";
  destination.publish();
  report.image = report.disks.front().image = location_for_people(options.target);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return report;
}

}  // namespace

JobReport convert(const ConvertOptions& options, const JobControl& control) {
  return translate_faults([&] { return convert_one(options, control); });
}

}  // namespace nasbackup
