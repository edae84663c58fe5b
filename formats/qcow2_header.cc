// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The header cluster; see qcow2_header.h.
#include "formats/qcow2_header.h"

#include <cassert>
#include <cstring>
#include <utility>

namespace nasbackup::qcow2 {

namespace {

Header header_of(const Geometry& geometry, CompressionType compression) {
  Header header{};
  header.magic = kMagic;
  header.version = 3;
  header.cluster_bits = geometry.cluster_bits;
  header.size = geometry.virtual_size;
  header.crypt_method = geometry.luks_clusters != 0 ? kCryptLuks : kCryptNone;
  header.l1_size = static_cast<std::uint32_t>(geometry.l1_entries);
  header.l1_table_offset = geometry.l1_offset.value;
  header.refcount_table_offset = geometry.refcount_table_offset.value;
  header.refcount_table_clusters = static_cast<std::uint32_t>(geometry.refcount_table_clusters);
  header.refcount_order = kRefcountOrder;
  header.header_length = sizeof(Header);
  header.compression_type = compression;
  if (compression != kZlib) header.incompatible_features = kIncompatCompression;
  return header;
}

// The names that QEMU 7.2 to 10 writes, so that an old reader can name a feature that it does not know.
constexpr FeatureName kFeatureNames[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};

class ClusterFiller {
 public:
  explicit ClusterFiller(std::uint64_t cluster_size) : cluster_(cluster_size) {}
  void append(const void* bytes, std::size_t length) {
    assert(used_ + length <= cluster_.size());
    std::memcpy(cluster_.data() + used_, bytes, length);
    used_ += length;
  }
  std::vector<std::byte> take() { return std::move(cluster_); }

 private:
  std::vector<std::byte> cluster_;
  std::size_t used_ = 0;
};

}  // namespace

// The extensions in QEMU's order.
std::vector<std::byte> header_cluster(const Geometry& geometry, CompressionType compression) {
  ClusterFiller cluster(geometry.cluster_size);
  const Header header = header_of(geometry, compression);
  cluster.append(&header, sizeof header);
  if (geometry.luks_clusters != 0) {
    const ExtensionHead crypto{kExtensionCryptoHeader, sizeof(CryptoHeaderPointer)};
    const CryptoHeaderPointer pointer{geometry.luks_offset.value, geometry.luks_bytes};
    cluster.append(&crypto, sizeof crypto);
    cluster.append(&pointer, sizeof pointer);
  }
  if (geometry.cluster_size > 4096) {  // as QEMU: in a small cluster the room is left to the backing file's name
    const ExtensionHead names{kExtensionFeatureNames, sizeof kFeatureNames};
    cluster.append(&names, sizeof names);
    cluster.append(kFeatureNames, sizeof kFeatureNames);
  }
  const ExtensionHead end{kExtensionEnd, 0u};
  cluster.append(&end, sizeof end);
  return cluster.take();
}

}  // namespace nasbackup::qcow2
