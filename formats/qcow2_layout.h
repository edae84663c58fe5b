// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A qcow2 image written from front to back: data clusters in guest order, each L2 table behind the clusters it maps, refcount
// blocks as the file grows; L1 and the refcount table go into room kept behind the header, the header goes last (ARCHITECTURE.md,
// "One cluster's life"). Holds L1, the refcount table, one L2 table, a few refcount blocks and one group of compressed clusters.
#pragma once

#include <string>
#include <vector>

#include "formats/image_layout.h"
#include "formats/qcow2_packed_clusters.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_geometry.h"
#include "formats/qcow2_refcounts.h"

namespace nasbackup::qcow2 {

class Layout final : public ImageLayout {
 public:
  /// `compression`: of the compressed clusters, if any are stored. In an image with a LUKS header there are none: readers do not
  /// decrypt them (ARCHITECTURE.md, "What we write, and never write"). `backing`: the name of the qcow2 on which it stands, as it
  /// is to lie in the header; empty: none. Throws FormatError for a name that finds no room there.
  explicit Layout(const Geometry& geometry, CompressionType compression = kZlib, std::string backing = {});

  void store(const EncodedRun& run, WriteBatch& out) override;
  void skip(GuestRange range, Absent as, WriteBatch& out) override;
  void write_tables(WriteBatch& out) override;
  void write_header(WriteBatch& out) override;
  std::uint64_t file_size() const noexcept override { return refcounts_.file_size(); }

 private:
  void store_plain(std::uint64_t cluster, std::span<std::byte> data, WriteBatch& out);
  void store_compressed(std::uint64_t cluster, std::span<const std::byte> stream, WriteBatch& out);
  void place_packed(WriteBatch& out);
  void store_zeroes(std::uint64_t cluster, std::uint64_t clusters, WriteBatch& out);
  void enter_l2(std::uint64_t l1_index, WriteBatch& out);
  void write_l2(WriteBatch& out);
  void map_run(std::uint64_t first_cluster, std::uint64_t clusters, HostOffset host);

  Geometry geometry_;
  CompressionType compression_;
  std::string backing_;
  Refcounts refcounts_;
  PackedClusters packed_;
  std::vector<Be64> l1_;
  std::vector<Be64> l2_;  // of l1_index_; empty until the first data cluster comes
  std::uint64_t l1_index_ = 0;
  std::uint64_t next_cluster_ = 0;  // guest clusters below it are placed
};

}  // namespace nasbackup::qcow2
