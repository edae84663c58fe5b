// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A target file that appears whole or not at all: written under a hidden name beside its own, renamed when it is finished. A
// hidden file that a dead run left is swept by the next run for the same name. Blocking; used by one thread.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "engine/io/file_descriptor.h"
#include "engine/io/hidden_file.h"
#include "engine/io/image_lock.h"

namespace nasbackup {

struct LifelineState;

class NewFile {
 public:
  /// `replace`: an existing regular file is replaced at the end, and held under QEMU's image locks until then, so that nobody
  /// uses what is about to go. Throws Fault when it exists otherwise. `run_is_alive` tells a dead run's file from a living one's.
  NewFile(std::string path, bool replace, LifelineState& lifeline, const HiddenFile::RunIsAlive& run_is_alive);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  /// Where to write: nothing is there yet.
  const std::string& hidden_path() const noexcept { return hidden_.path(); }
  /// Gives the finished file its name and makes that durable. Throws Fault.
  void publish();

 private:
  void look_at_existing();
  void sync_directory() const;

  std::string path_;
  HiddenFile hidden_;
  bool replace_;
  LifelineState& lifeline_;
  FileDescriptor existing_;
  std::optional<ImageLock> existing_lock_;
};

/// Writes a small file at a path where nothing is (hidden_path()), mode 0600, and makes it durable. Throws Fault.
void write_new_file(const std::string& path, std::span<const std::byte> content, LifelineState& lifeline);

}  // namespace nasbackup
