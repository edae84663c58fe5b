// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The disk in a qcow2: plain, compressed or LUKS-encrypted clusters, and under what is not allocated its backing file. Internal
// snapshots are not looked at. See image_layer.h.
#pragma once

#include <memory>
#include <vector>

#include "crypto/aes_xts.h"
#include "engine/io/idle_pool.h"
#include "engine/io/image_bytes.h"
#include "engine/io/image_layer.h"
#include "engine/io/qcow2_tables.h"
#include "formats/decompressor.h"

namespace nasbackup {

class Qcow2Layer final : public ImageLayer {
 public:
  /// `cipher`: of its data when crypt_method is 2, else null. `backing`: null when it has none. Throws Fault for what a reader
  /// must know of it and does not, and for tables that are not there.
  Qcow2Layer(std::unique_ptr<ImageBytes> bytes, const qcow2::HeaderFacts& header, std::unique_ptr<crypto::AesXts> cipher,
             std::unique_ptr<ImageLayer> backing);

  Extent extent(GuestOffset from, std::uint64_t most, std::uint64_t granularity) const override;
  void read(GuestOffset from, std::span<std::byte> into, KeptStreams* keep) const override;
  void confirm() override;
  std::optional<FilePlace> locate(GuestOffset at) const override;

 private:
  /// Neighbours on the disk whose content is found in one step.
  struct Piece {
    GuestRange guest;
    qcow2::Mapping mapping;
  };

  Piece piece(GuestOffset from, std::uint64_t most) const;
  void grow(Piece& piece, const Qcow2Tables::Table& table, std::uint64_t most) const;
  qcow2::Mapping mapping(const Qcow2Tables::Table& table, GuestOffset at) const;
  Extent backing_extent(GuestRange range, std::uint64_t granularity) const;
  void read_piece(const Piece& piece, std::span<std::byte> into, KeptStreams* keep) const;
  void read_backing(const Piece& piece, std::span<std::byte> into, KeptStreams* keep) const;
  void read_plain(const Piece& piece, std::span<std::byte> into) const;
  void read_compressed(const std::vector<Piece>& pieces, GuestOffset from, std::span<std::byte> into, KeptStreams* keep) const;
  void decompress(const Piece& piece, std::span<const std::byte> stream, std::span<std::byte> into, KeptStreams* keep) const;
  bool follows(const Piece& last, const Piece& next, std::uint64_t stored) const noexcept;

  std::unique_ptr<ImageBytes> bytes_;
  Qcow2Tables tables_;
  Codec codec_;
  std::unique_ptr<crypto::AesXts> cipher_;
  std::unique_ptr<ImageLayer> backing_;
  mutable IdlePool<Decompressor> decompressors_;
};

}  // namespace nasbackup
