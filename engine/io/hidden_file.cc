// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A hidden file; see hidden_file.h.
#include "engine/io/hidden_file.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"

namespace nasbackup {

namespace {

constexpr std::size_t kRunIdLength = 16;

/// As much of the name as leaves room for the rest in the 255 bytes that a file name may have.
std::string hidden_prefix(const std::filesystem::path& path) {
  return "." + path.filename().string().substr(0, 220) + ".nasbackup-";
}

}  // namespace

HiddenFile::HiddenFile(const std::string& path, LifelineState& lifeline, const RunIsAlive& run_is_alive) : lifeline_(lifeline) {
  const std::filesystem::path whole(path);
  if (!whole.has_filename()) throw Fault(FaultKind::usage, path + ": names a directory; write the name of a file");
  directory_ = whole.has_parent_path() ? whole.parent_path().string() : ".";
  const std::string prefix = hidden_prefix(whole);
  path_ = (std::filesystem::path(directory_) / (prefix + lifeline.run_id.data())).string();
  sweep(prefix, run_is_alive);
}

HiddenFile::~HiddenFile() {
  const TargetCall mark(&lifeline_);
  if (!path_.empty()) ::unlink(path_.c_str());
}

void HiddenFile::sweep(const std::string& prefix, const RunIsAlive& run_is_alive) const {
  const TargetCall mark(&lifeline_);
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() != prefix.size() + kRunIdLength || !name.starts_with(prefix)) continue;
    if (!run_is_alive(name.substr(prefix.size()))) ::unlink(entry.path().c_str());
  }
}

}  // namespace nasbackup
