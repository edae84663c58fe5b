// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A target that takes everything and keeps nothing (`null:`): for measuring, and for reading a source once.
#pragma once

#include "engine/io/block_target.h"

namespace nasbackup {

class NullTarget final : public BlockTarget {
 public:
  asio::awaitable<void> apply(WriteBatch&) override { co_return; }
  asio::awaitable<void> flush() override { co_return; }
  asio::awaitable<std::uint64_t> close(std::uint64_t size) override { co_return size; }
};

}  // namespace nasbackup
