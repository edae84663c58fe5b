// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An empty persistent bitmap for a qcow2 file that is being backed up: it begins to count where the backup ends, because the
// image stays under QEMU's locks from before the first read until the bitmap stands. What is written, and in which order:
// formats/qcow2_bitmap_addition.h. Blocking calls, marked on the lifeline, which may be null. Used by one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "engine/io/image_bytes.h"
#include "engine/io/image_lock.h"
#include "formats/qcow2_bitmap_addition.h"

namespace nasbackup {

class BitmapSeed {
 public:
  /// Locks the image. Throws Fault(source): in use.
  BitmapSeed(const std::string& path, const std::string& bitmap, LifelineState* lifeline);
  /// Takes the bitmap away again, unless it is kept.
  ~BitmapSeed();
  BitmapSeed(const BitmapSeed&) = delete;
  BitmapSeed& operator=(const BitmapSeed&) = delete;

  /// Once nobody else reads the image. Throws Fault; the image is as it was then. To be called once.
  void add();
  void keep() noexcept { added_ = false; }

 private:
  void write(const std::string& bitmap);
  void undo();

  const std::string path_;
  const std::string bitmap_;
  LifelineState* lifeline_;
  ImageBytes source_;
  ImageLock reading_;
  std::unique_ptr<ImageBytes> image_;  // open for writing
  std::unique_ptr<ImageLock> writing_;
  qcow2::BitmapAddition addition_;
  bool added_ = false;  // something was written that is to be taken back
};

}  // namespace nasbackup
