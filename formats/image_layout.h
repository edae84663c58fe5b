// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where the bytes of an image go: the format's decisions without its I/O. One implementation for each format that is written.
// Used by one thread at a time, in rising guest order (asserted): that order is what makes equal inputs equal files.
#pragma once

#include "formats/encoded_run.h"
#include "formats/units.h"
#include "formats/write_batch.h"

namespace nasbackup {

/// What a range of the guest's disk is that is not stored.
enum class Absent {
  zero,    ///< it reads as zero
  parent,  ///< it reads as in the image on which this one stands
};

class ImageLayout {
 public:
  virtual ~ImageLayout() = default;

  /// Places guest data; plain clusters must outlive the writing of `out`, a compressed one is copied. Throws FormatError when the
  /// format is full.
  virtual void store(const EncodedRun& run, WriteBatch& out) = 0;
  /// A run of guest bytes that are not stored. Absent::parent: only of a format, and an image, that stands on another.
  virtual void skip(GuestRange range, Absent as, WriteBatch& out) = 0;
  /// After the last cluster: what is still held of data and tables. Until write_header's batch is written too, no reader takes
  /// the file for an image.
  virtual void write_tables(WriteBatch& out) = 0;
  /// To be written once everything before is on stable storage.
  virtual void write_header(WriteBatch& out) = 0;
  /// Size of the finished file.
  virtual std::uint64_t file_size() const noexcept = 0;
};

}  // namespace nasbackup
