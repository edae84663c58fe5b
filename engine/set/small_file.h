// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Small files of a set (manifest, XML, lock record), read and written whole. Reading is bounded and never waits on a
// FIFO or follows a link; writing counts the results of write, fsync and close, because NFS reports a full disk in the
// last two. No state; safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "engine/set/directory.h"

namespace nasbackup::set {

struct SmallFile {
  std::string content;
  std::int64_t modified_ns = 0;  ///< mtime; on a network by the clock of the NAS
};

/// Nothing when there is no such file. Fault(damaged) when it is no regular file or longer than `limit` bytes.
std::optional<SmallFile> read_small_file(const Directory& directory, const std::string& name, std::size_t limit);

/// When a file that was written is on the disk: when the call returns, or after a sync_file() that is to follow.
enum class OnDisk { now, later };

/// Makes a file of mode 0600 that must not exist yet. Nothing is left on failure.
void write_new_file(const Directory& directory, const std::string& name, std::string_view content, OnDisk when = OnDisk::now);

/// Writes over the beginning of a file that must exist. False when it does not.
bool overwrite_file(const Directory& directory, const std::string& name, std::string_view content);

/// SHA-256 of a file, or of the text, as hexadecimal digits. Reads `size` bytes; Fault(damaged) when the file has not so many or
/// is no regular one, or is missing. `go_on` is asked now and then, and may throw.
std::string file_sha256(const Directory& directory, const std::string& name, std::uint64_t size,
                        const std::function<void()>& go_on = {});
std::string sha256_of(std::string_view content);

/// fsync of a file that is there already, which gets this mode when one is given; returns its size.
std::uint64_t sync_file(const Directory& directory, const std::string& name, std::optional<mode_t> mode = {});

}  // namespace nasbackup::set
