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
inline constexpr std::uint64_t kIncompatKnown = 0x1f;

// "Autoclear features"
inline constexpr std::uint64_t kAutoclearBitmaps = 1u << 0;
inline constexpr std::uint64_t kAutoclearRawData = 1u << 1;
inline constexpr std::uint64_t kAutoclearKnown = 0x3;

inline constexpr unsigned kMaxRefcountOrder = 6;                ///< 64-bit refcounts
inline constexpr unsigned kMinClusterBitsExtendedL2 = 14;       ///< a subcluster is a sector at least
inline constexpr std::uint32_t kMaxSnapshots = 65536;           ///< QCOW_MAX_SNAPSHOTS
inline constexpr std::uint64_t kMaxSnapshotsBytes = 64u << 20;  ///< QCOW_MAX_SNAPSHOTS_SIZE

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
inline constexpr std::uint32_t kExtensionBitmaps = 0x23852875;

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
inline constexpr std::uint64_t kEntryCopied = std::uint64_t{1} << 63;  ///< the refcount is exactly one
inline constexpr std::uint64_t kEntryZero = 1;                         ///< "reads as all zeros": version 3, not with extended L2
inline constexpr std::uint64_t kL1Reserved = 0x7f000000000001ff;
inline constexpr std::uint64_t kL2Reserved = 0x3f000000000001fe;  ///< of a standard descriptor; bit 0 depends on the version

/// Section "Extended L2 Entries".
struct ExtendedL2Entry {
  Be64 descriptor;
  Be64 bitmap;  ///< the low half: allocated, the high half: reads as zeroes; one bit for each subcluster
};
static_assert(sizeof(ExtendedL2Entry) == 16);
inline constexpr unsigned kSubclusters = 32;

/// Section "Compressed Clusters Descriptor".
inline constexpr std::uint64_t kEntryCompressed = std::uint64_t{1} << 62;
inline constexpr std::uint64_t kCompressedSector = 512;  ///< what "additional sectors" counts
/// The bit at which the number of additional sectors begins; below it stands the host byte offset.
constexpr unsigned compressed_offset_bits(unsigned cluster_bits) noexcept { return 62 - (cluster_bits - 8); }

inline constexpr unsigned kRefcountOrder = 4;  ///< 16-bit refcounts, QEMU's default
using Refcount = Be16;

inline constexpr std::uint64_t kRefcountTableReserved = 0x1ff;

/// Section "Snapshots": one entry, then its extra data, id and name; the next one begins at a multiple of 8.
struct SnapshotHead {
  Be64 l1_table_offset;
  Be32 l1_size;
  Be16 id_size;
  Be16 name_size;
  Be32 date_seconds;
  Be32 date_nanoseconds;
  Be64 vm_clock;
  Be32 vm_state_size;
  Be32 extra_data_size;
};
static_assert(sizeof(SnapshotHead) == 40);
inline constexpr std::uint32_t kSnapshotExtraV3 = 16;     ///< what version 3 has at least
inline constexpr std::uint32_t kMaxSnapshotExtra = 1024;  ///< QCOW_MAX_SNAPSHOT_EXTRA_DATA

/// Section "Bitmaps extension".
struct BitmapsExtension {
  Be32 bitmaps;
  Be32 reserved;
  Be64 directory_size;
  Be64 directory_offset;
};
static_assert(sizeof(BitmapsExtension) == 24);
inline constexpr std::uint32_t kMaxBitmaps = 65535;                   ///< QCOW2_MAX_BITMAPS
inline constexpr std::uint64_t kMaxBitmapDirectoryBytes = 64u << 20;  ///< QCOW2_MAX_BITMAP_DIRECTORY_SIZE is 1024 for each bitmap

/// Section "Bitmap directory": one entry, then its extra data and name; the next one begins at a multiple of 8.
struct BitmapDirectoryEntry {
  Be64 table_offset;
  Be32 table_size;  ///< entries
  Be32 flags;
  std::uint8_t type;
  std::uint8_t granularity_bits;
  Be16 name_size;
  Be32 extra_data_size;
};
static_assert(sizeof(BitmapDirectoryEntry) == 24);
inline constexpr std::uint32_t kBitmapFlagsReserved = 0xfffffffc;   ///< with "extra data compatible", which QEMU does not know
inline constexpr std::uint32_t kMaxBitmapTableEntries = 0x8000000;  ///< BME_MAX_TABLE_SIZE
inline constexpr std::uint16_t kMaxBitmapName = 1023;
inline constexpr std::uint8_t kBitmapDirtyTracking = 1;  ///< the only type of bitmap that there is
inline constexpr unsigned kMinBitmapGranularityBits = 9, kMaxBitmapGranularityBits = 31;  ///< BME_MIN_GRANULARITY_BITS, BME_MAX_…
inline constexpr std::uint32_t kBitmapInUse = 1;  ///< whoever had it open did not put it back: not to be believed
inline constexpr std::uint32_t kBitmapAuto = 2;   ///< it counts the writes of whoever opens the image
inline constexpr std::uint64_t kBitmapEntryReserved = 0xff000000000001fe;
inline constexpr std::uint64_t kBitmapEntryAllOnes = 1;

/// How many L2 entries and how many refcounts one cluster holds.
constexpr std::uint64_t l2_entries(std::uint64_t cluster_size) noexcept { return cluster_size / sizeof(Be64); }
constexpr std::uint64_t refcounts_per_block(std::uint64_t cluster_size) noexcept { return cluster_size / sizeof(Refcount); }

}  // namespace nasbackup::qcow2
