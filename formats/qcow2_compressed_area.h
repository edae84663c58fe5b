// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Compressed clusters behind each other, byte by byte (specification, "Compressed Clusters Descriptor"). They are packed into
// areas of neighbouring host clusters that are reserved ahead, so that a stream may cross from one host cluster into the next
// although plain clusters come between: without that each plain cluster would cost the rest of the host cluster before it.
// Bytes leave in whole chunks, none is written twice. Used by one thread at a time.
#pragma once

#include "formats/qcow2_refcounts.h"
#include "formats/write_batch.h"

namespace nasbackup::qcow2 {

class CompressedArea {
 public:
  /// `refcounts` outlives the area.
  CompressedArea(Refcounts& refcounts, std::uint64_t cluster_size) noexcept;

  /// Copies one cluster's stream behind the one before; returns where it begins.
  HostOffset append(std::span<const std::byte> stream, WriteBatch& out);
  /// Writes what is held, filled up with zeroes to a whole cluster, and gives the rest of the area back. The next stream begins a
  /// new one.
  void close(WriteBatch& out);

  /// The most host clusters that an area takes, used or not.
  static std::uint64_t most_clusters(std::uint64_t cluster_size) noexcept;

 private:
  void make_room(std::uint64_t length, WriteBatch& out);
  void copy(std::span<const std::byte> bytes, WriteBatch& out);
  void fill_up_cluster(WriteBatch& out);
  void write_chunk(WriteBatch& out);
  std::uint64_t chunk_end() const noexcept;

  Refcounts& refcounts_;
  std::uint64_t cluster_size_;
  std::uint64_t next_clusters_;    // of the next area: small in a small image
  std::uint64_t at_ = 0;           // host offset of the next stream
  std::uint64_t end_ = 0;          // of the area; equal to at_: there is none
  std::uint64_t chunk_start_ = 0;  // host offset of chunk_
  AlignedBytes chunk_;             // [chunk_start_, at_) of it is filled
};

}  // namespace nasbackup::qcow2
