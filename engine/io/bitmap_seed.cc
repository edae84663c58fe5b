// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See bitmap_seed.h.
#include "engine/io/bitmap_seed.h"

#include <unistd.h>

#include "engine/io/lifeline_state.h"
#include "engine/io/whole_write.h"
#include "formats/format_error.h"

namespace nasbackup {

BitmapSeed::BitmapSeed(const std::string& path, const std::string& bitmap, LifelineState* lifeline)
    : path_(path),
      bitmap_(bitmap),
      lifeline_(lifeline),
      source_(path, lifeline),
      reading_(ImageLock::for_reading(source_.descriptor(), path)) {}

BitmapSeed::~BitmapSeed() {
  try {
    undo();
  } catch (const std::exception&) {
    return;  // a bitmap that nobody asks for does no harm
  }
}

void BitmapSeed::add() try {
  const TargetCall mark(lifeline_);
  reading_.confirm_undisturbed();
  image_ = std::make_unique<ImageBytes>(path_, lifeline_, ImageBytes::Access::change);
  if (image_->identity() != source_.identity()) throw Fault(FaultKind::source, path_ + ": is another file than was read");
  writing_ = std::make_unique<ImageLock>(ImageLock::for_writing_after(std::move(reading_), image_->descriptor(), path_));
  write(bitmap_);
} catch (const std::exception& error) {
  const auto* fault = dynamic_cast<const Fault*>(&error);
  const std::string line = "Failed to pre-seed bitmap " + bitmap_ + " on " + path_ + ": " + error.what();
  throw Fault(fault != nullptr ? fault->kind() : FaultKind::source, line);
}

void BitmapSeed::write(const std::string& bitmap) {
  const qcow2::ReadUpTo read = [this](std::uint64_t offset, std::span<std::byte> into) {
    return image_->read_up_to(offset, into);
  };
  addition_ = qcow2::plan_bitmap(read, image_->file_size(), bitmap);
  added_ = true;
  try {
    for (const auto& stage : addition_.stages) {
      for (const qcow2::ImageWrite& change : stage) write_whole(image_->descriptor(), change.offset, change.now, path_);
      sync_whole(image_->descriptor(), path_);
    }
  } catch (const Fault&) {
    undo();
    throw;
  }
}

/// What stood there is written again, last things first; so at no time does anything lead to what is not there.
void BitmapSeed::undo() {
  if (!added_) return;
  added_ = false;
  const TargetCall mark(lifeline_);
  for (auto stage = addition_.stages.rbegin(); stage != addition_.stages.rend(); ++stage) {
    for (const qcow2::ImageWrite& change : *stage) write_whole(image_->descriptor(), change.offset, change.old, path_);
    sync_whole(image_->descriptor(), path_);
  }
  if (::ftruncate(image_->descriptor(), static_cast<off_t>(image_->file_size())) != 0)
    throw_target_errno(errno, path_, "truncate");
}

}  // namespace nasbackup
