// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An image that is laid out by hand, byte by byte from the specification, and what a check says of it.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "formats/qcow2_check.h"
#include "formats/qcow2_compressed_check.h"
#include "formats/qcow2_format.h"

namespace nasbackup::qcow2 {

struct Outcome {
  MetadataCheck check;
  std::uint64_t count(FindingKind kind) const { return check.findings.count(kind); }
  std::uint64_t corruptions() const { return count(FindingKind::corruption); }
  std::uint64_t leaks() const { return count(FindingKind::leak); }
  std::string text() const {
    std::string all;
    for (const Finding& finding : check.findings.kept()) all += finding.text + "\n";
    return all;
  }
  const Finding& only() const {
    EXPECT_EQ(check.findings.kept().size(), 1u) << text();
    return check.findings.kept().at(0);
  }
  bool tells_of(const std::string& what) const { return text().find(what) != std::string::npos; }
};

inline Outcome check_bytes(const std::vector<std::byte>& bytes) {
  const ReadUpTo read = [&](std::uint64_t offset, std::span<std::byte> into) {
    if (offset >= bytes.size()) return std::size_t{0};
    const std::size_t got = std::min<std::size_t>(into.size(), bytes.size() - offset);
    std::memcpy(into.data(), bytes.data() + offset, got);
    return got;
  };
  const CheckHeader header = parse_check_header(std::span(bytes).first(std::min<std::size_t>(bytes.size(), 2u << 20)));
  Outcome outcome{check_metadata(read, bytes.size(), header)};
  if (outcome.check.compressed_pieces.empty()) return outcome;
  CompressedCheck compressed(read, bytes.size(), header);
  for (const CompressedPiece& piece : outcome.check.compressed_pieces) compressed.check(piece, outcome.check.findings);
  return outcome;
}

inline std::vector<std::byte> deflated(std::size_t size) {
  std::vector<unsigned char> plain(size);
  for (std::size_t i = 0; i < size; ++i) plain[i] = static_cast<unsigned char>(i * i >> 3);
  std::vector<std::byte> out(size + 100);
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = plain.data();
  stream.avail_in = static_cast<uInt>(size);
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline constexpr std::uint64_t kCluster = 4096;

/// Clusters: 0 header, 1 refcount table, 2 refcount block, 3 L1, 4 L2, 5 and 6 the guest's clusters 0 and 1, 7 two compressed
/// ones, the guest's 2 and 3.
class HandMade {
 public:
  explicit HandMade(unsigned version = 3, unsigned refcount_order = 4, std::uint64_t incompatible = 0)
      : bytes_(8 * kCluster), order_(refcount_order) {
    put32(0, kMagic), put32(4, version), put32(20, 12), put64(24, 8 * kCluster), put32(36, 1), put64(40, 3 * kCluster);
    put64(48, kCluster), put32(56, 1);
    if (version == 3) put64(72, incompatible), put32(96, refcount_order), put32(100, 112);
    put64(kCluster, 2 * kCluster);
    put64(kL1, 4 * kCluster | kEntryCopied);
    put64(l2(0), 5 * kCluster | kEntryCopied), put64(l2(1), 6 * kCluster | kEntryCopied);
    const std::vector<std::byte> stream = deflated(kCluster);
    stream_bytes = stream.size();
    EXPECT_LT(stream_bytes, 2048u);
    place_compressed(2, 7 * kCluster, stream), place_compressed(3, 7 * kCluster + 2048, stream);
    for (std::uint64_t cluster = 0; cluster < 7; ++cluster) set_refcount(cluster, 1);
    if (refcount_order > 0)
      set_refcount(7, 2);
    else
      put64(l2(3), 0), set_refcount(7, 1);
  }

  static constexpr std::uint64_t kL1 = 3 * kCluster;
  static constexpr std::uint64_t kRefcounts = 2 * kCluster;
  static std::uint64_t l2(std::uint64_t index) { return 4 * kCluster + 8 * index; }

  void put16(std::uint64_t offset, std::uint16_t value) { put(offset, Be16(value)); }
  void put32(std::uint64_t offset, std::uint32_t value) { put(offset, Be32(value)); }
  void put64(std::uint64_t offset, std::uint64_t value) { put(offset, Be64(value)); }
  std::uint64_t get64(std::uint64_t offset) const {
    Be64 value;
    std::memcpy(static_cast<void*>(&value), bytes_.data() + offset, 8);
    return value;
  }
  void set_refcount(std::uint64_t cluster, std::uint64_t count) {
    const unsigned bits = 1u << order_;
    for (unsigned bit = 0; bit < bits; ++bit) {  // of a value of whole bytes the first byte is the highest
      const std::uint64_t at = bits < 8 ? cluster * bits + bit : cluster * bits + (bits - 8 - bit / 8 * 8) + bit % 8;
      std::byte& byte = bytes_[kRefcounts + at / 8];
      byte = (byte & ~(std::byte{1} << at % 8)) | (std::byte{static_cast<unsigned char>(count >> bit & 1)} << at % 8);
    }
  }
  void place_compressed(std::uint64_t guest, std::uint64_t offset, const std::vector<std::byte>& stream) {
    std::copy(stream.begin(), stream.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
    put64(l2(guest), descriptor(offset, (offset + stream.size() - 1) / 512 - offset / 512));
  }
  static std::uint64_t descriptor(std::uint64_t offset, std::uint64_t more_sectors) {
    return kEntryCompressed | more_sectors << compressed_offset_bits(12) | offset;
  }
  void add_cluster() { bytes_.resize(bytes_.size() + kCluster); }
  std::vector<std::byte>& bytes() { return bytes_; }
  Outcome check() const { return check_bytes(bytes_); }

  std::size_t stream_bytes = 0;

 private:
  template <class T>
  void put(std::uint64_t offset, T value) {
    std::memcpy(bytes_.data() + offset, static_cast<const void*>(&value), sizeof value);
  }
  std::vector<std::byte> bytes_;
  unsigned order_;
};

/// With the snapshot table in cluster 8 and its L1 table, the same as the active one, in cluster 9.
inline HandMade with_snapshot() {
  HandMade image;
  image.add_cluster(), image.add_cluster();
  image.put32(60, 1), image.put64(64, 8 * kCluster);
  image.put64(8 * kCluster, 9 * kCluster), image.put32(8 * kCluster + 8, 1), image.put32(8 * kCluster + 36, 16);
  for (const std::uint64_t i : {0u, 1u}) image.put64(image.l2(i), image.get64(image.l2(i)) & ~kEntryCopied);
  image.put64(image.kL1, 4 * kCluster), image.put64(9 * kCluster, 4 * kCluster);
  for (const std::uint64_t cluster : {4u, 5u, 6u}) image.set_refcount(cluster, 2);
  image.set_refcount(7, 4), image.set_refcount(8, 1), image.set_refcount(9, 1);
  return image;
}

/// With a bitmap extension, its directory in cluster 8, its table in 9, its data in 10.
inline HandMade with_bitmap() {
  HandMade image;
  for (int i = 0; i < 3; ++i) image.add_cluster();
  image.put64(88, kAutoclearBitmaps);
  image.put32(112, kExtensionBitmaps), image.put32(116, 24), image.put32(120, 1), image.put64(128, 32),
      image.put64(136, 8 * kCluster);
  image.put64(8 * kCluster, 9 * kCluster), image.put32(8 * kCluster + 8, 1), image.put32(8 * kCluster + 16, 0x01100003);
  image.put64(9 * kCluster, 10 * kCluster);
  for (const std::uint64_t cluster : {8u, 9u, 10u}) image.set_refcount(cluster, 1);
  return image;
}

}  // namespace nasbackup::qcow2
