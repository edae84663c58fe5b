// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The header cluster; see qcow2_header.h.
#include "formats/qcow2_header.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string_view>
#include <utility>

#include "formats/format_error.h"

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

constexpr std::size_t kExtensionAlignment = 8;

class ClusterFiller {
 public:
  explicit ClusterFiller(std::uint64_t cluster_size) : cluster_(cluster_size) {}
  void append(const void* bytes, std::size_t length) {
    assert(used_ + length <= cluster_.size());
    if (length != 0) std::memcpy(cluster_.data() + used_, bytes, length);
    used_ += length;
  }
  /// An extension, padded to a multiple of eight bytes.
  void append(std::uint32_t type, const void* bytes, std::uint32_t length) {
    const ExtensionHead head{type, length};
    append(&head, sizeof head);
    append(bytes, length);
    used_ = round_up(used_, kExtensionAlignment);
  }
  std::size_t used() const noexcept { return used_; }
  std::byte* at(std::size_t offset) noexcept { return cluster_.data() + offset; }
  std::vector<std::byte> take() { return std::move(cluster_); }

 private:
  std::vector<std::byte> cluster_;
  std::size_t used_ = 0;
};

constexpr std::string_view kBackingFormat = "qcow2";

bool has_feature_names(const Geometry& geometry) noexcept {
  return geometry.cluster_size > 4096;  // as QEMU: in a small cluster the room is left to the backing file's name
}

/// Where the extensions end and the name may begin.
std::size_t bytes_before_name(const Geometry& geometry) noexcept {
  std::size_t bytes = sizeof(Header) + 2 * sizeof(ExtensionHead) + round_up(kBackingFormat.size(), kExtensionAlignment);
  if (geometry.luks_clusters != 0) bytes += sizeof(ExtensionHead) + sizeof(CryptoHeaderPointer);
  if (has_feature_names(geometry)) bytes += sizeof(ExtensionHead) + sizeof kFeatureNames;
  return bytes;
}

}  // namespace

void require_room_for(const Geometry& geometry, const std::string& backing) {
  if (backing.empty()) return;
  const std::size_t room = std::min<std::size_t>(kMaxBackingName, geometry.cluster_size - bytes_before_name(geometry));
  if (backing.size() > room)
    throw FormatError("qcow2: backing file: a name of " + std::to_string(backing.size()) + " bytes, with clusters of " +
                      std::to_string(geometry.cluster_size) + " bytes there is room for " + std::to_string(room));
}

// The extensions in QEMU's order.
std::vector<std::byte> header_cluster(const Geometry& geometry, CompressionType compression, const std::string& backing) {
  ClusterFiller cluster(geometry.cluster_size);
  Header header = header_of(geometry, compression);
  cluster.append(&header, sizeof header);
  if (!backing.empty()) cluster.append(kExtensionBackingFormat, kBackingFormat.data(), kBackingFormat.size());
  if (geometry.luks_clusters != 0) {
    const CryptoHeaderPointer pointer{geometry.luks_offset.value, geometry.luks_bytes};
    cluster.append(kExtensionCryptoHeader, &pointer, sizeof pointer);
  }
  if (has_feature_names(geometry)) cluster.append(kExtensionFeatureNames, kFeatureNames, sizeof kFeatureNames);
  cluster.append(kExtensionEnd, nullptr, 0);
  if (backing.empty()) return cluster.take();
  header.backing_file_offset = cluster.used();
  header.backing_file_size = static_cast<std::uint32_t>(backing.size());
  cluster.append(backing.data(), backing.size());
  std::memcpy(cluster.at(0), &header, sizeof header);
  return cluster.take();
}

}  // namespace nasbackup::qcow2
