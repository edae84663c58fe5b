// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::verify: reads a set or an image back from where it lies, past the page cache, decodes it and compares it with what
// was read when the backup was made, or with another source.
#include <chrono>

#include "engine/io/location.h"
#include "engine/job_state.h"
#include "engine/luks_image.h"
#include "engine/translate_faults.h"
#include "engine/verification.h"

namespace nasbackup {

namespace {

/// Which of the stored disks is meant, and with what it shall be compared: NAME=SRC, where there are several disks.
std::pair<std::size_t, std::string> parse_against(const std::string& word, const StoredDisks& stored) {
  const std::size_t equals = word.find('=');
  if (stored.disks().size() == 1 && (equals == std::string::npos || word.substr(0, equals) != stored.disks().front().name))
    return {0, word};
  if (equals == std::string::npos)
    throw Fault(FaultKind::usage, "--against " + word + ": there are several disks: write --against NAME=SRC");
  return {stored.find(word.substr(0, equals), "--against"), word.substr(equals + 1)};
}

std::map<std::size_t, Against> against_of(const VerifyOptions& options, const StoredDisks& stored, const JobControl& control) {
  std::map<std::size_t, Against> all;
  const auto keys = std::make_shared<luks::KeyRing>(ring_of(options.against_keys, control.stop));
  for (const std::string& word : options.against) {
    const auto [index, location] = parse_against(word, stored);
    Against against{{location, stored.set() != nullptr ? options.source_format : ""}, location_for_people(location)};
    against.source.keys = keys;
    if (!all.emplace(index, std::move(against)).second)
      throw Fault(FaultKind::usage, "--against: " + stored.disks()[index].name + ": is named twice");
  }
  return all;
}

VerifyReport verify_now(const VerifyOptions& options, JobControl control) {
  const auto began = std::chrono::steady_clock::now();
  if (!control.lifeline) control.lifeline = std::make_shared<Lifeline>();
  LifelineState* state = state_of(control);
  check_source_format(options.source_format);
  if (!(options.sample > 0 && options.sample <= 1))
    throw Fault(FaultKind::usage, "--sample: write more than 0% and at most 100%");
  std::vector<FileRead> files;
  const bool is_set = set::is_set(options.path, state);
  if (is_set) files = let_set_go(set::find_set(options.path, state).path, state);
  const std::string format = is_set && !options.against.empty() ? "" : options.source_format;
  const StoredDisks stored(options.path, format, options, control);
  VerificationScope scope;
  scope.sample = options.sample;
  scope.against = against_of(options, stored, control);
  VerifyReport report = Verification(options, control, stored, std::move(scope), std::move(files)).run();
  if (const std::string line = cached_line(report); !line.empty()) report.warnings.push_back(line);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return report;
}

}  // namespace

VerifyReport verify(const VerifyOptions& options, const JobControl& control) {
  return translate_faults([&] { return verify_now(options, control); });
}

}  // namespace nasbackup
