// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A raw disk: a file, a block device, or what a LUKS container holds. Holes are found by SEEK_HOLE. See image_layer.h.
#pragma once

#include <memory>

#include "engine/io/image_bytes.h"
#include "engine/io/image_layer.h"

namespace nasbackup {

class RawLayer final : public ImageLayer {
 public:
  explicit RawLayer(std::unique_ptr<ImageBytes> bytes) noexcept : ImageLayer(bytes->size(), 1), bytes_(std::move(bytes)) {}

  Extent extent(GuestOffset from, std::uint64_t most, std::uint64_t granularity) const override;
  void read(GuestOffset from, std::span<std::byte> into, KeptStreams* keep) const override;
  void confirm() override { bytes_->confirm_unchanged(); }
  std::optional<FilePlace> locate(GuestOffset at) const override { return bytes_->place_of(at.value); }

 private:
  std::unique_ptr<ImageBytes> bytes_;
};

}  // namespace nasbackup
