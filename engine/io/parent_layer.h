// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// In place of what an increment stands on, where that is not to be read: it says of everything that it is the parent's. See
// image_layer.h.
#pragma once

#include "engine/io/image_layer.h"

namespace nasbackup {

class ParentLayer final : public ImageLayer {
 public:
  /// `child`: the image on it, for messages; `size` of its disk.
  ParentLayer(std::string child, std::uint64_t size) noexcept : ImageLayer(size, 1), child_(std::move(child)) {}

  Extent extent(GuestOffset from, std::uint64_t most, std::uint64_t) const override {
    return {{from, std::min(most, size() - from.value)}, ExtentKind::parent};
  }
  /// What is read belongs to a piece of which some is in the image; we store pieces whole.
  void read(GuestOffset from, std::span<std::byte>, KeptStreams*) const override {
    throw Fault(FaultKind::damaged,
                child_ + ": guest byte " + std::to_string(from.value) + ": a part of a piece is left to the parent");
  }
  void confirm() override {}
  std::optional<FilePlace> locate(GuestOffset) const override { return std::nullopt; }

 private:
  std::string child_;
};

}  // namespace nasbackup
