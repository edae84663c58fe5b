// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_check_header.h. The limits are those of qcow2_do_open and qcow2_read_extensions (QEMU block/qcow2.c).
#include "formats/qcow2_check_header.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "formats/format_error.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_header_reader.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

[[noreturn]] void refuse(const char* field, std::uint64_t value, const std::string& why) {
  throw FormatError("qcow2 header: " + std::string(field) + ": " + std::to_string(value) + ", " + why);
}

/// The fixed part; parse_header has seen that it is there. What a version 2 header lacks is what version 2 means.
Header load_fixed(std::span<const std::byte> file_start, unsigned version) {
  Header header{};
  if (version == 2) {
    std::memcpy(static_cast<void*>(&header), file_start.data(), kHeaderBytesV2);
    header.refcount_order = kRefcountOrder;
    header.header_length = kHeaderBytesV2;
    return header;
  }
  Be32 length;
  std::memcpy(static_cast<void*>(&length), file_start.data() + offsetof(Header, header_length), sizeof length);
  std::memcpy(static_cast<void*>(&header), file_start.data(), std::min<std::size_t>(length, sizeof header));
  return header;
}

void refuse_table(const char* name, std::uint64_t offset, std::uint64_t bytes, std::uint64_t most, std::uint64_t cluster_size) {
  if (bytes > most) refuse(name, bytes, "larger than " + std::to_string(most) + " bytes");
  if (offset % cluster_size != 0 || offset > (std::uint64_t{1} << 63) - 1 - bytes)
    refuse(name, offset, "its offset is no multiple of the cluster size below 2^63");
}

void refuse_features(const Header& header) {
  if ((header.incompatible_features & ~kIncompatKnown) != 0)
    refuse("incompatible_features", header.incompatible_features & ~kIncompatKnown, "not known");
  const bool says_zstd = (header.incompatible_features & kIncompatCompression) != 0;
  if (header.compression_type > kZstd) refuse("compression_type", header.compression_type, "not known");
  if ((header.compression_type != kZlib) != says_zstd)
    refuse("compression_type", header.compression_type, "and the incompatible feature bit 3 contradict each other");
  if ((header.incompatible_features & kIncompatExtendedL2) != 0 && header.cluster_bits < kMinClusterBitsExtendedL2)
    refuse("cluster_bits", header.cluster_bits, "must be 14 or more with extended L2 entries");
  if ((header.autoclear_features & kAutoclearRawData) != 0 && (header.incompatible_features & kIncompatDataFile) == 0)
    refuse("autoclear_features", header.autoclear_features, "raw external data without an external data file");
  if (header.refcount_order > kMaxRefcountOrder) refuse("refcount_order", header.refcount_order, "must be 0 to 6");
}

void refuse_tables(const Header& header, const CheckHeader& facts) {
  refuse_table("refcount table", facts.refcount_table_offset, facts.refcount_table_clusters * facts.cluster_size,
               kMaxRefcountTableBytes, facts.cluster_size);
  refuse_table("L1 table", facts.l1_offset, std::uint64_t{facts.l1_entries} * sizeof(Be64), kMaxL1Bytes, facts.cluster_size);
  if (facts.l1_entries < div_round_up(facts.virtual_size, facts.l2_reach()))
    refuse("l1_size", facts.l1_entries, "too small for the virtual size");
  if (facts.snapshots > kMaxSnapshots) refuse("nb_snapshots", facts.snapshots, "more than 65536");
  refuse_table("snapshot table", header.snapshots_offset, sizeof(SnapshotHead) * facts.snapshots,
               sizeof(SnapshotHead) * kMaxSnapshots, facts.cluster_size);
}

/// Section "Bitmaps extension": without the autoclear bit it means nothing.
void take_bitmaps(std::span<const std::byte> data, CheckHeader& facts) {
  if ((facts.autoclear_features & kAutoclearBitmaps) == 0) return;
  if (data.size() != sizeof(BitmapsExtension)) refuse("bitmaps extension", data.size(), "must be 24 bytes long");
  BitmapsExtension extension;
  std::memcpy(static_cast<void*>(&extension), data.data(), sizeof extension);
  if (extension.reserved != 0) refuse("bitmaps extension", extension.reserved, "must be zero");
  if (extension.bitmaps == 0 || extension.bitmaps > kMaxBitmaps) refuse("bitmaps", extension.bitmaps, "must be 1 to 65535");
  refuse_table("bitmap directory", extension.directory_offset, extension.directory_size, kMaxBitmapDirectoryBytes,
               facts.cluster_size);
  facts.bitmaps = extension.bitmaps;
  facts.bitmap_directory_offset = extension.directory_offset;
  facts.bitmap_directory_bytes = extension.directory_size;
}

void take_extensions(std::span<const std::byte> file_start, const Header& header, CheckHeader& facts) {
  const std::uint64_t end = header.backing_file_offset != 0 ? std::uint64_t{header.backing_file_offset}
                                                            : std::min<std::uint64_t>(file_start.size(), facts.cluster_size);
  std::uint64_t at = header.header_length;
  while (at < end) {
    if (end - at < sizeof(ExtensionHead)) refuse("extension", at, "leaves the header");
    ExtensionHead head;
    std::memcpy(static_cast<void*>(&head), file_start.data() + at, sizeof head);
    at += sizeof head;
    if (head.length > end - at) refuse("extension", head.length, "leaves the header");  // also of the one that ends them
    if (head.type == kExtensionEnd) return;
    if (head.type == kExtensionBitmaps) take_bitmaps(file_start.subspan(at, head.length), facts);
    at += round_up(head.length, 8);
  }
}

}  // namespace

CheckHeader parse_check_header(std::span<const std::byte> file_start) {
  const HeaderFacts read = parse_header(file_start);
  const Header header = load_fixed(file_start, read.version);
  CheckHeader facts;
  facts.version = read.version;
  facts.cluster_bits = header.cluster_bits;
  facts.cluster_size = read.cluster_size;
  facts.virtual_size = read.virtual_size;
  facts.crypt_method = read.crypt_method;
  facts.compression_type = read.compression_type;
  facts.has_data_file = read.has_data_file;
  facts.extended_l2 = read.extended_l2;
  facts.incompatible_features = header.incompatible_features;
  facts.autoclear_features = header.autoclear_features;
  facts.l1_offset = read.l1_offset;
  facts.l1_entries = read.l1_entries;
  facts.refcount_table_offset = header.refcount_table_offset;
  facts.refcount_table_clusters = header.refcount_table_clusters;
  facts.refcount_order = header.refcount_order;
  facts.snapshots_offset = header.snapshots_offset;
  facts.snapshots = read.snapshots;
  facts.crypto_offset = read.crypto_header_offset;
  facts.crypto_bytes = read.crypto_header_length;
  refuse_features(header);
  refuse_tables(header, facts);
  take_extensions(file_start, header, facts);
  return facts;
}

}  // namespace nasbackup::qcow2
