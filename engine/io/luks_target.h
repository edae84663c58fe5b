// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Encrypts what is written on its way to another target: AES-XTS in place, on the pool, after the layout has given every byte its
// place in the file, because the tweak is that place (facts in docs/formats/luks.md). Used on the loop's thread only.
#pragma once

#include <atomic>
#include <memory>

#include <boost/asio/any_io_executor.hpp>

#include "engine/io/block_target.h"
#include "engine/io/image_key.h"
#include "engine/io/stage_clock.h"

namespace nasbackup {

class LuksTarget final : public BlockTarget {
 public:
  /// What is encrypted, and where the header lies.
  struct Placement {
    bool whole_payload;            ///< true: a container, and all is encrypted; false: guest data alone (qcow2, crypt_method 2)
    HostOffset header_offset;      ///< in the file
    std::uint32_t payload_sector;  ///< of the payload, counted from the header; in a qcow2 the data is where it is
  };
  static Placement container() noexcept { return {true, HostOffset(0), luks::kPayloadOfContainer}; }
  static Placement in_qcow2(HostOffset header) noexcept { return {false, header, luks::kPayloadInQcow2}; }
  /// How much longer the file is than what is written into it.
  static std::uint64_t shift_of(const Placement& placement) noexcept {
    return placement.whole_payload ? placement.payload_sector * luks::kSectorBytes : 0;
  }

  /// `clock` counts the encrypting, and outlives the target.
  LuksTarget(std::unique_ptr<BlockTarget> inner, std::shared_ptr<ImageKey> key, Placement placement, asio::any_io_executor pool,
             StageClock& clock);

  asio::awaitable<void> apply(WriteBatch& batch) override;
  /// Also writes the header, which waits for the key stretching: before it is there nobody can read the image.
  asio::awaitable<void> flush() override;
  asio::awaitable<std::uint64_t> close(std::uint64_t size) override;

  /// CPU seconds spent on encrypting, all threads.
  double cpu_seconds() const noexcept { return static_cast<double>(cpu_ns_) / 1e9; }

 private:
  bool covers(const FilePiece& piece) const noexcept { return placement_.whole_payload || piece.content == Content::guest_data; }
  void encrypt(const WriteBatch& batch);
  asio::awaitable<void> encrypt_on_pool(WriteBatch& batch);
  asio::awaitable<void> write_zeroes(FileRange range);
  asio::awaitable<void> write_header();

  std::unique_ptr<BlockTarget> inner_;
  std::shared_ptr<ImageKey> key_;
  Placement placement_;
  asio::any_io_executor pool_;
  StageClock& clock_;
  std::atomic<std::int64_t> cpu_ns_{0};
  bool has_header_ = false;
};

}  // namespace nasbackup
