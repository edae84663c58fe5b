// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Compressed clusters behind each other, byte by byte (specification, "Compressed Clusters Descriptor"). They are collected until
// a group of them fills its host clusters nearly to the last byte, and only then get their place, at the end of the file: so they
// lie dense although plain clusters come between, the file only grows, and no byte is written twice. Used by one thread at a
// time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/qcow2_refcounts.h"
#include "formats/write_batch.h"

namespace nasbackup::qcow2 {

class PackedClusters {
 public:
  explicit PackedClusters(std::uint64_t cluster_size) noexcept;
  /// Bytes that a group may grow to, and its last stream beyond.
  static std::uint64_t largest_group(std::uint64_t cluster_size) noexcept;

  /// Copies the stream of one guest cluster (its index) behind those before.
  void add(std::uint64_t guest_cluster, std::span<const std::byte> stream);
  /// True when the group should be placed: hardly any room is lost at its end, or it has become large.
  bool is_due() const noexcept;

  struct Placed {
    std::uint64_t guest_cluster;
    HostOffset at;
    std::uint64_t length;
  };
  /// Takes host clusters for the group, filled up with zeroes, and begins a new one. Nothing when there is none.
  std::vector<Placed> place(Refcounts& refcounts, WriteBatch& out);

 private:
  struct Member {
    std::uint64_t guest_cluster;
    std::uint64_t begin;  ///< within the group
    std::uint64_t length;
  };
  void copy(std::span<const std::byte> bytes);

  std::uint64_t cluster_size_;
  std::uint64_t size_ = 0;  // bytes of the group
  std::vector<Member> members_;
  std::vector<std::vector<std::byte>> chunks_;  // the group's bytes
};

}  // namespace nasbackup::qcow2
