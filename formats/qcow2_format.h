// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The on-disk definitions of qcow2, shared by writer, reader and check, and all that they share: structs, masks, limits.
// Source: QEMU docs/interop/qcow2.txt ("the specification"); the limits are those of QEMU's block/qcow2.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/big_endian.h"

namespace nasbackup::qcow2 {

inline constexpr std::uint32_t kMagic = 0x514649fb;  ///< "QFI\xfb"

inline constexpr unsigned kMinClusterBits = 9;                     ///< 512 bytes
inline constexpr unsigned kMaxClusterBits = 21;                    ///< 2 MiB: QEMU's limit
inline constexpr std::uint64_t kMaxL1Bytes = 32u << 20;            ///< QCOW_MAX_L1_SIZE
inline constexpr std::uint64_t kMaxRefcountTableBytes = 8u << 20;  ///< QCOW_MAX_REFTABLE_SIZE
inline constexpr std::uint32_t kMaxBackingName = 1023;             ///< specification, "backing_file_size"
inline constexpr std::uint64_t kSectorSize = 512;                  ///< the virtual size is a multiple of it: QEMU drops the rest

/// Section "Header", version 3. QEMU writes 112 bytes of it: 104 of the specification's table, compression type, padding.
struct Header {
  Be32 magic;
  Be32 version;
  Be64 backing_file_offset;
  Be32 backing_file_size;
  Be32 cluster_bits;
  Be64 size;
  Be32 crypt_method;
  Be32 l1_size;
  Be64 l1_table_offset;
  Be64 refcount_table_offset;
  Be32 refcount_table_clusters;
  Be32 nb_snapshots;
  Be64 snapshots_offset;
  Be64 incompatible_features;
  Be64 compatible_features;
  Be64 autoclear_features;
  Be32 refcount_order;
  Be32 header_length;
  std::uint8_t compression_type;
  std::uint8_t padding[7];
};
static_assert(sizeof(Header) == 112 && alignof(Header) == 8);
static_assert(offsetof(Header, incompatible_features) == 72 && offsetof(Header, compression_type) == 104);

inline constexpr std::size_t kHeaderBytesV2 = 72;

enum CryptMethod : std::uint32_t { kCryptNone = 0, kCryptAes = 1, kCryptLuks = 2 };
enum CompressionType : std::uint8_t { kZlib = 0, kZstd = 1 };

// "Incompatible features"
inline constexpr std::uint64_t kIncompatDirty = 1u << 0;
inline constexpr std::uint64_t kIncompatCorrupt = 1u << 1;
inline constexpr std::uint64_t kIncompatDataFile = 1u << 2;
inline constexpr std::uint64_t kIncompatCompression = 1u << 3;
inline constexpr std::uint64_t kIncompatExtendedL2 = 1u << 4;
inline constexpr std::uint64_t kIncompatKnown = (1u << 5) - 1;

/// Section "Header extensions".
struct ExtensionHead {
  Be32 type;
  Be32 length;
};
static_assert(sizeof(ExtensionHead) == 8);
inline constexpr std::uint32_t kExtensionEnd = 0;
inline constexpr std::uint32_t kExtensionBackingFormat = 0xe2792aca;
inline constexpr std::uint32_t kExtensionFeatureNames = 0x6803f857;
inline constexpr std::uint32_t kExtensionCryptoHeader = 0x0537be77;

/// Section "Full disk encryption header pointer".
struct CryptoHeaderPointer {
  Be64 offset;  ///< of the LUKS header in the file, at a cluster
  Be64 length;
};
static_assert(sizeof(CryptoHeaderPointer) == 16);
inline constexpr std::uint64_t kMaxCryptoHeaderBytes = 16u << 20;  ///< LUKS1 with the largest keys takes 2 MiB

/// Section "Feature name table".
struct FeatureName {
  std::uint8_t kind;  ///< 0 incompatible, 1 compatible, 2 autoclear
  std::uint8_t bit;
  char name[46];
};
static_assert(sizeof(FeatureName) == 48);

// Sections "L1 table entry" and "L2 table entry", "Standard Cluster Descriptor".
inline constexpr std::uint64_t kEntryOffsetMask = 0x00fffffffffffe00;
inline constexpr std::uint64_t kEntryZero = 1;  ///< version 3, without extended L2
inline constexpr std::uint64_t kEntryCopied = std::uint64_t{1} << 63;  ///< the refcount is exactly one

/// Section "Extended L2 Entries": each entry is followed by a bitmap, 32 bits "allocated" and above them 32 bits "reads as zero".
inline constexpr unsigned kSubclusters = 32;
inline constexpr std::uint64_t kMinExtendedCluster = 16u << 10;  ///< QEMU: a subcluster is a sector or more

/// Section "Compressed Clusters Descriptor".
inline constexpr std::uint64_t kEntryCompressed = std::uint64_t{1} << 62;
inline constexpr std::uint64_t kCompressedSector = 512;  ///< what "additional sectors" counts
/// The bit at which the number of additional sectors begins; below it stands the host byte offset.
constexpr unsigned compressed_offset_bits(unsigned cluster_bits) noexcept { return 62 - (cluster_bits - 8); }

inline constexpr unsigned kRefcountOrder = 4;  ///< 16-bit refcounts, QEMU's default
using Refcount = Be16;

/// How many L2 entries and how many refcounts one cluster holds.
constexpr std::uint64_t l2_entries(std::uint64_t cluster_size) noexcept { return cluster_size / sizeof(Be64); }
constexpr std::uint64_t refcounts_per_block(std::uint64_t cluster_size) noexcept { return cluster_size / sizeof(Refcount); }

}  // namespace nasbackup::qcow2
