// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A place for a file that nobody is to see: a hidden name that carries the run's id, removed at the end. What a dead run left
// there is swept by the next one for the same name. Blocking; used by one thread.
#pragma once

#include <functional>
#include <string>

namespace nasbackup {

struct LifelineState;

class HiddenFile {
 public:
  using RunIsAlive = std::function<bool(const std::string& run_id)>;

  /// Beside `path`, and named after it. Nothing is there yet, or made here. Throws Fault(usage) when `path` is no file's.
  HiddenFile(const std::string& path, LifelineState& lifeline, const RunIsAlive& run_is_alive);
  ~HiddenFile();
  HiddenFile(const HiddenFile&) = delete;
  HiddenFile& operator=(const HiddenFile&) = delete;

  const std::string& path() const noexcept { return path_; }
  const std::string& directory() const noexcept { return directory_; }
  /// It has another name now: nothing is removed any more.
  void let_go() noexcept { path_.clear(); }

 private:
  void sweep(const std::string& prefix, const RunIsAlive& run_is_alive) const;

  std::string directory_;
  std::string path_;
  LifelineState& lifeline_;
};

}  // namespace nasbackup
