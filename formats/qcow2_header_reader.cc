// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Reads a qcow2 header; see qcow2_header_reader.h.
#include "formats/qcow2_header_reader.h"

#include <algorithm>
#include <cstring>

#include "formats/format_error.h"
#include "formats/qcow2_format.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

template <class T>
T load(std::span<const std::byte> bytes, std::uint64_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
    throw FormatError("qcow2 header: ends at byte " + std::to_string(bytes.size()));
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string load_text(std::span<const std::byte> bytes, std::uint64_t offset, std::uint64_t length) {
  if (offset > bytes.size() || bytes.size() - offset < length)
    throw FormatError("qcow2 header: text at byte " + std::to_string(offset) + " leaves the first cluster");
  return {reinterpret_cast<const char*>(bytes.data() + offset), length};
}

/// The fixed part, as long as the version says; what a version 2 header lacks is zero.
Header load_fixed(std::span<const std::byte> bytes) {
  if (!has_magic(bytes)) throw FormatError("qcow2 header: no magic");
  Header header{};
  const auto version = load<Be32>(bytes, offsetof(Header, version));
  if (version != 2 && version != 3) throw FormatError("qcow2 header: version: " + std::to_string(version) + ", must be 2 or 3");
  if (bytes.size() < kHeaderBytesV2) throw FormatError("qcow2 header: ends at byte " + std::to_string(bytes.size()));
  std::memcpy(static_cast<void*>(&header), bytes.data(), kHeaderBytesV2);
  if (version == 2) {
    header.header_length = kHeaderBytesV2;
    return header;
  }
  const auto length = load<Be32>(bytes, offsetof(Header, header_length));
  if (length < offsetof(Header, compression_type) || length % 8 != 0)
    throw FormatError("qcow2 header: header_length: " + std::to_string(length) + ", must be a multiple of 8 from 104");
  const std::size_t known = std::min<std::size_t>(length, sizeof header);
  if (bytes.size() < known) throw FormatError("qcow2 header: ends at byte " + std::to_string(bytes.size()));
  std::memcpy(static_cast<void*>(&header), bytes.data(), known);
  return header;
}

void check_fixed(const Header& header) {
  if (header.cluster_bits < kMinClusterBits || header.cluster_bits > kMaxClusterBits)
    throw FormatError("qcow2 header: cluster_bits: " + std::to_string(header.cluster_bits) + ", must be 9 to 21");
  const std::uint64_t cluster = std::uint64_t{1} << header.cluster_bits;
  if (header.header_length > cluster)
    throw FormatError("qcow2 header: header_length: " + std::to_string(header.header_length) + ", larger than a cluster");
  if (header.l1_size > kMaxL1Bytes / sizeof(Be64))
    throw FormatError("qcow2 header: l1_size: " + std::to_string(header.l1_size) + ", too large");
  if (header.crypt_method > kCryptLuks)
    throw FormatError("qcow2 header: crypt_method: " + std::to_string(header.crypt_method) + ", not known");
  if (header.backing_file_offset != 0 &&
      (header.backing_file_offset > cluster ||
       header.backing_file_size > std::min<std::uint64_t>(kMaxBackingName, cluster - header.backing_file_offset)))
    throw FormatError("qcow2 header: backing_file_size: " + std::to_string(header.backing_file_size) +
                      ", leaves the first cluster");
}

/// Section "Full disk encryption header pointer".
void take_crypto_header(std::span<const std::byte> cluster, std::uint64_t at, std::uint32_t length, HeaderFacts& facts) {
  if (facts.crypt_method != kCryptLuks)
    throw FormatError("qcow2 header: full disk encryption header: crypt_method: " + std::to_string(facts.crypt_method) +
                      ", must be 2");
  if (length != sizeof(CryptoHeaderPointer))
    throw FormatError("qcow2 header: full disk encryption header: length: " + std::to_string(length) + ", must be 16");
  const auto pointer = load<CryptoHeaderPointer>(cluster, at);
  if (pointer.offset == 0 || pointer.offset % facts.cluster_size != 0)
    throw FormatError("qcow2 header: full disk encryption header: offset: " + std::to_string(pointer.offset) +
                      ", must be a multiple of the cluster size");
  if (pointer.length == 0 || pointer.length > kMaxCryptoHeaderBytes)
    throw FormatError("qcow2 header: full disk encryption header: length: " + std::to_string(pointer.length) + ", must be 1 to " +
                      std::to_string(kMaxCryptoHeaderBytes));
  facts.crypto_header_offset = pointer.offset;
  facts.crypto_header_length = pointer.length;
}

/// Section "Header extensions": they end at type 0, or where the backing file's name begins.
void take_extensions(std::span<const std::byte> cluster, const Header& header, HeaderFacts& facts) {
  const std::uint64_t end = header.backing_file_offset != 0 ? std::uint64_t{header.backing_file_offset} : cluster.size();
  std::uint64_t at = header.header_length;
  while (at + sizeof(ExtensionHead) <= end) {
    const auto head = load<ExtensionHead>(cluster, at);
    at += sizeof head;
    if (head.type == kExtensionEnd) break;
    if (head.length > end - at)
      throw FormatError("qcow2 header: extension at byte " + std::to_string(at) + ": length: " + std::to_string(head.length) +
                        ", leaves the header");
    if (head.type == kExtensionBackingFormat) facts.backing_format = load_text(cluster, at, head.length);
    if (head.type == kExtensionCryptoHeader) take_crypto_header(cluster, at, head.length, facts);
    at += round_up(head.length, 8);
  }
  if (facts.crypt_method == kCryptLuks && facts.crypto_header_offset == 0)
    throw FormatError("qcow2 header: crypt_method: 2, without a full disk encryption header");
}

}  // namespace

bool has_magic(std::span<const std::byte> file_start) noexcept {
  Be32 magic;
  if (file_start.size() < sizeof magic) return false;
  std::memcpy(static_cast<void*>(&magic), file_start.data(), sizeof magic);
  return magic == kMagic;
}

HeaderFacts parse_header(std::span<const std::byte> file_start) {
  const Header header = load_fixed(file_start);
  check_fixed(header);
  HeaderFacts facts;
  facts.version = header.version;
  facts.virtual_size = header.size;
  facts.cluster_size = std::uint64_t{1} << header.cluster_bits;
  facts.crypt_method = header.crypt_method;
  facts.compression_type = header.compression_type;
  facts.compression_bit = (header.incompatible_features & kIncompatCompression) != 0;
  facts.incompatible_features = header.incompatible_features;
  facts.snapshots = header.nb_snapshots;
  facts.has_data_file = (header.incompatible_features & kIncompatDataFile) != 0;
  facts.extended_l2 = (header.incompatible_features & kIncompatExtendedL2) != 0;
  facts.l1_offset = header.l1_table_offset;
  facts.l1_entries = header.l1_size;
  const auto cluster = file_start.first(std::min<std::uint64_t>(file_start.size(), facts.cluster_size));
  if (header.backing_file_offset != 0)
    facts.backing_file = load_text(cluster, header.backing_file_offset, header.backing_file_size);
  take_extensions(cluster, header, facts);
  return facts;
}

}  // namespace nasbackup::qcow2
