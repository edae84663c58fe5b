// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What has to be written to add an empty persistent bitmap to an existing qcow2, as `qemu-img bitmap --add` does. Sections
// "Bitmaps extension", "Host cluster management". Everything new lies behind the file's end, and is there before anything leads
// to it; a stop between two stages leaves an image that opens, and clusters that leak at worst. Like a repair, it is judged by
// what the check reads. Pure; holds the refcount table (8 MiB at most), the directory (64 MiB at most) and a few refcount blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "formats/qcow2_checked_image.h"

namespace nasbackup::qcow2 {

struct ImageWrite {
  std::uint64_t offset = 0;
  std::vector<std::byte> old;  ///< what stands there; empty behind the file's end
  std::vector<std::byte> now;
};

struct BitmapAddition {
  /// Each stage is on the disk before the next one begins: what is new; its refcounts; the header; what is not needed any more.
  /// To undo them, the old bytes are written in the opposite order, and the file gets its old size.
  std::vector<std::vector<ImageWrite>> stages;
};

/// `name` in QEMU's default granularity, counting the writes of whoever opens the image next (flag "auto"). Throws FormatError:
/// an image that QEMU would not let have it (version 2, marked as dirty or corrupt, a bitmap of that name), or that is damaged
/// where it matters.
BitmapAddition plan_bitmap(const ReadUpTo& read, std::uint64_t file_size, const std::string& name);

}  // namespace nasbackup::qcow2
