// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_mapping.h.
#include "formats/qcow2_mapping.h"

#include <bit>
#include <string>

#include "formats/format_error.h"
#include "formats/qcow2_format.h"

namespace nasbackup::qcow2 {

namespace {

[[noreturn]] void refuse_entry(const char* table, std::uint64_t index, std::uint64_t entry, const std::string& what) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (int shift = 60; shift >= 0; shift -= 4) hex += kDigits[entry >> shift & 15];
  throw FormatError("qcow2: " + std::string(table) + " entry " + std::to_string(index) + ": 0x" + hex + ": " + what);
}

}  // namespace

EntryRules::EntryRules(const HeaderFacts& header) noexcept
    : version_(header.version),
      cluster_bits_(static_cast<unsigned>(std::countr_zero(header.cluster_size))),
      cluster_size_(header.cluster_size),
      subclusters_(header.extended_l2 ? kSubclusters : 1),
      entries_per_table_(l2_entries(header.cluster_size) / (header.extended_l2 ? 2 : 1)),
      encrypted_(header.crypt_method != kCryptNone) {}

HostOffset EntryRules::table_offset(std::uint64_t l1_index, std::uint64_t l1_entry) const {
  const std::uint64_t offset = l1_entry & kEntryOffsetMask;
  if (offset % cluster_size_ != 0) refuse_entry("L1", l1_index, l1_entry, "the L2 table is not at a cluster");
  return HostOffset(offset);
}

Mapping EntryRules::mapping(std::span<const Be64> table, GuestOffset at) const {
  const std::uint64_t index = at.value / cluster_size_ % entries_per_table_;
  const std::uint64_t entry = table[subclusters_ == 1 ? index : 2 * index];
  if ((entry & kEntryCompressed) != 0) return compressed(index, entry);
  if (subclusters_ == 1) return standard(index, entry);
  return extended(index, entry, table[2 * index + 1], static_cast<unsigned>(at.value % cluster_size_ / subcluster_size()));
}

Mapping EntryRules::standard(std::uint64_t index, std::uint64_t entry) const {
  if ((entry & kEntryZero) != 0) {
    if (version_ < 3) refuse_entry("L2", index, entry, "reads as zero, which version 2 does not know");
    return {Mapping::Kind::zero, {}, 0};
  }
  const HostOffset at = host_offset(index, entry);
  if (at.value == 0) return {};
  return {Mapping::Kind::plain, at, 0};
}

Mapping EntryRules::extended(std::uint64_t index, std::uint64_t entry, std::uint64_t bitmap, unsigned subcluster) const {
  const bool allocated = (bitmap >> subcluster & 1) != 0, zero = (bitmap >> (kSubclusters + subcluster) & 1) != 0;
  if (allocated && zero) refuse_entry("L2", index, bitmap, "subcluster " + std::to_string(subcluster) + " is both data and zero");
  if (zero) return {Mapping::Kind::zero, {}, 0};
  if (!allocated) return {};
  const HostOffset at = host_offset(index, entry);
  if (at.value == 0) refuse_entry("L2", index, bitmap, "subcluster " + std::to_string(subcluster) + " is data of no cluster");
  return {Mapping::Kind::plain, at + subcluster * subcluster_size(), 0};
}

Mapping EntryRules::compressed(std::uint64_t index, std::uint64_t entry) const {
  // QEMU reads such a cluster without deciphering it: whoever wrote it has stored plaintext.
  if (encrypted_) refuse_entry("L2", index, entry, "a compressed cluster in an encrypted image");
  const unsigned bits = compressed_offset_bits(cluster_bits_);
  const std::uint64_t offset = entry & ((std::uint64_t{1} << bits) - 1);
  const std::uint64_t more_sectors = (entry & (kEntryCompressed - 1)) >> bits;
  if (offset == 0) refuse_entry("L2", index, entry, "a compressed cluster at offset 0");
  return {Mapping::Kind::compressed, HostOffset(offset), (more_sectors + 1) * kCompressedSector - offset % kCompressedSector};
}

HostOffset EntryRules::host_offset(std::uint64_t index, std::uint64_t entry) const {
  const std::uint64_t offset = entry & kEntryOffsetMask;
  if (offset % cluster_size_ != 0) refuse_entry("L2", index, entry, "the data cluster is not at a cluster");
  return HostOffset(offset);
}

void require_readable(const HeaderFacts& header) {
  const std::uint64_t unknown = header.incompatible_features & ~kIncompatKnown;
  if (unknown != 0)
    throw FormatError("qcow2 header: incompatible feature bit " + std::to_string(std::countr_zero(unknown)) + ": not known");
  if (header.has_data_file) throw FormatError("qcow2 header: an external data file: not supported");
  if (header.crypt_method == kCryptAes) throw FormatError("qcow2 header: encrypted the old way (AES): not supported");
  if (header.extended_l2 && header.cluster_size < std::uint64_t{1} << kMinClusterBitsExtendedL2)
    throw FormatError("qcow2 header: cluster size: " + std::to_string(header.cluster_size) +
                      ", too small for extended L2 entries");
  if (header.compression_type > kZstd || (header.compression_bit != (header.compression_type != kZlib)))
    throw FormatError("qcow2 header: compression_type: " + std::to_string(header.compression_type) +
                      ", does not match the incompatible features");
  if (header.l1_offset % header.cluster_size != 0)
    throw FormatError("qcow2 header: l1_table_offset: " + std::to_string(header.l1_offset) + ", not at a cluster");
  const std::uint64_t needed = div_round_up(header.virtual_size, EntryRules(header).bytes_per_table());
  if (header.l1_entries < needed)
    throw FormatError("qcow2 header: l1_size: " + std::to_string(header.l1_entries) + ", too small: the disk needs " +
                      std::to_string(needed));
}

}  // namespace nasbackup::qcow2
