// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "formats/qcow2_mapping.h"

#include <gtest/gtest.h>

#include <vector>

#include "formats/format_error.h"
#include "formats/qcow2_format.h"

namespace nasbackup::qcow2 {
namespace {

using Kind = Mapping::Kind;

constexpr std::uint64_t kCluster = 64u << 10;

HeaderFacts header_of(std::uint64_t cluster = kCluster) {
  HeaderFacts header;
  header.version = 3;
  header.cluster_size = cluster;
  header.virtual_size = 1u << 30;
  header.l1_entries = 1u << 20;
  header.l1_offset = 3 * cluster;
  return header;
}

/// An L2 table with these words at its beginning.
std::vector<Be64> table(std::initializer_list<std::uint64_t> words, std::uint64_t cluster = kCluster) {
  std::vector<Be64> entries(l2_entries(cluster));
  std::size_t at = 0;
  for (const std::uint64_t word : words) entries[at++] = word;
  return entries;
}

TEST(AnL2Entry, TellsWhereItsClusterIs) {
  const EntryRules rules(header_of());
  const auto entries = table({0, kEntryZero, 5 * kCluster | kEntryCopied, 5 * kCluster | kEntryZero});
  EXPECT_EQ(rules.mapping(entries, GuestOffset(7)).kind, Kind::unallocated);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(kCluster)).kind, Kind::zero);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(2 * kCluster + 9)).kind, Kind::plain);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(2 * kCluster + 9)).at.value, 5 * kCluster);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(3 * kCluster)).kind, Kind::zero);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(2 * kCluster + rules.bytes_per_table())).kind, Kind::plain);
}

TEST(AnL2Entry, OfVersion2KnowsNoZeroes) {
  HeaderFacts header = header_of();
  header.version = 2;
  EXPECT_THROW(EntryRules(header).mapping(table({kEntryZero}), GuestOffset(0)), FormatError);
}

// Specification, "Compressed Clusters Descriptor": x = 62 - (cluster_bits - 8).
TEST(AnL2Entry, OfACompressedClusterCountsItsSectors) {
  for (const std::uint64_t cluster : {std::uint64_t{512}, kCluster, std::uint64_t{2} << 20}) {
    unsigned bits = 0;
    while (cluster >> bits > 1) ++bits;
    const unsigned x = 62 - (bits - 8);
    const EntryRules rules(header_of(cluster));
    const Mapping found = rules.mapping(table({kEntryCompressed | std::uint64_t{1} << x | 1000}, cluster), GuestOffset(0));
    EXPECT_EQ(found.kind, Kind::compressed);
    EXPECT_EQ(found.at.value, 1000u);
    EXPECT_EQ(found.stored, 2 * 512 - 1000 % 512);
    const Mapping largest = rules.mapping(table({~kEntryCopied, 0}, cluster), GuestOffset(0));
    EXPECT_LE(largest.stored, 2 * cluster);
  }
}

TEST(AnL2Entry, ThatBreaksTheRulesIsRefusedByItsPlace) {
  HeaderFacts header = header_of();
  EXPECT_THROW(EntryRules(header).mapping(table({kEntryCompressed}), GuestOffset(0)), FormatError);
  EXPECT_THROW(EntryRules(header).mapping(table({kCluster + 512}), GuestOffset(0)), FormatError);
  header.crypt_method = kCryptLuks;
  EXPECT_THROW(EntryRules(header).mapping(table({kEntryCompressed | 512}), GuestOffset(0)), FormatError);
  try {
    EntryRules(header).mapping(table({0, 0, kCluster + 512}), GuestOffset(2 * kCluster));
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_STREQ(error.what(), "qcow2: L2 entry 2: 0x0000000000010200: the data cluster is not at a cluster");
  }
  EXPECT_THROW(EntryRules(header_of()).table_offset(3, kCluster + 512), FormatError);
  EXPECT_EQ(EntryRules(header_of()).table_offset(3, kEntryCopied | kCluster).value, kCluster);
}

// Specification, "Extended L2 Entries": bit n of the bitmap: allocated, bit 32 + n: reads as zero.
TEST(AnExtendedL2Entry, MapsEachSubclusterByItself) {
  HeaderFacts header = header_of();
  header.extended_l2 = true;
  const EntryRules rules(header);
  EXPECT_EQ(rules.subcluster_size(), 2048u);
  EXPECT_EQ(rules.entries_per_table(), 4096u);
  const auto entries = table({9 * kCluster, std::uint64_t{1} << 1 | std::uint64_t{1} << 34, 0, std::uint64_t{1} << 63});
  EXPECT_EQ(rules.mapping(entries, GuestOffset(0)).kind, Kind::unallocated);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(2048)).kind, Kind::plain);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(2048)).at.value, 9 * kCluster + 2048);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(2 * 2048)).kind, Kind::zero);
  EXPECT_EQ(rules.mapping(entries, GuestOffset(kCluster + 31 * 2048)).kind, Kind::zero);
  EXPECT_THROW(rules.mapping(table({9 * kCluster, 1 | std::uint64_t{1} << 32}), GuestOffset(0)), FormatError);
  EXPECT_THROW(rules.mapping(table({0, 1}), GuestOffset(0)), FormatError);
}

TEST(AHeader, ThatAsksForWhatWeDoNotKnowIsNotReadable) {
  EXPECT_NO_THROW(require_readable(header_of()));
  const auto changed = [](auto change) {
    HeaderFacts header = header_of();
    change(header);
    return header;
  };
  EXPECT_THROW(require_readable(changed([](HeaderFacts& h) { h.incompatible_features = std::uint64_t{1} << 5; })), FormatError);
  EXPECT_THROW(require_readable(changed([](HeaderFacts& h) { h.has_data_file = true; })), FormatError);
  EXPECT_THROW(require_readable(changed([](HeaderFacts& h) { h.crypt_method = kCryptAes; })), FormatError);
  EXPECT_THROW(require_readable(changed([](HeaderFacts& h) { h.compression_type = kZstd; })), FormatError);
  EXPECT_THROW(require_readable(changed([](HeaderFacts& h) { h.compression_bit = true; })), FormatError);
  EXPECT_THROW(require_readable(changed([](HeaderFacts& h) { h.l1_offset += 1; })), FormatError);
  EXPECT_THROW(require_readable(changed([](HeaderFacts& h) { h.l1_entries = 1; })), FormatError);
  EXPECT_THROW(require_readable(changed([](HeaderFacts& h) { h.virtual_size = ~std::uint64_t{0}; })), FormatError);
  EXPECT_NO_THROW(require_readable(changed([](HeaderFacts& h) { h.compression_bit = true, h.compression_type = kZstd; })));
}

}  // namespace
}  // namespace nasbackup::qcow2
