// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::convert: one image to another through the pipeline.
#include <sys/stat.h>

#include <chrono>
#include <optional>

#include "engine/io/lifeline_state.h"
#include "engine/io/nbd_connection.h"
#include "engine/io/new_file.h"
#include "engine/nasbackup.h"
#include "engine/passphrase.h"
#include "engine/set/run_lock.h"
#include "engine/transfer.h"
#include "engine/translate_faults.h"

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

JobReport convert_one(const ConvertOptions& options, const JobControl& control) {
  check_formats(options);
  check_encryption(options);
  const auto began = std::chrono::steady_clock::now();
  const auto lifeline = control.lifeline ? control.lifeline : std::make_shared<Lifeline>();
  LifelineState& state = lifeline->state();
  // What is written in place has no name to give at the end.
  const bool in_place = is_nbd_uri(options.target) || is_null_target(options.target) || is_device(options.target, state);
  std::optional<NewFile> file;
  if (!in_place) {
    const auto alive = [](const std::string& run_id) { return set::run_is_alive(run_id); };
    file.emplace(options.target, options.force, state, alive);
  }
  Transfer transfer(options, state, control);
  const TransferDisk disk{"disk0",
                          nbd_uri_for_people(options.source),
                          {options.source, options.source_format, options.shared_source},
                          {file ? file->hidden_path() : options.target, options.target_format, compression_of(options), nullptr}};
  JobReport report;
  report.disks = transfer.run({disk});
  report.stretching_cpu_seconds = transfer.stretching_cpu_seconds();
  state.phase = "publishing";
  if (file) file->publish();
  report.image = report.disks.front().image = nbd_uri_for_people(options.target);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return report;
}

}  // namespace

JobReport convert(const ConvertOptions& options, const JobControl& control) {
  return translate_faults([&] { return convert_one(options, control); });
}

}  // namespace nasbackup
