// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The check, against an image that is laid out by hand, with one thing wrong at a time; and against what our own layout writes.
#include "formats/qcow2_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>

#include "formats/format_error.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_layout.h"
#include "tests/unit/formats/hand_made_image.h"
#include "tests/unit/formats/memory_image.h"

namespace nasbackup::qcow2 {
namespace {

// ---- what is sound ----------------------------------------------------------------------------------------------------------

TEST(Qcow2Check, FindsNothingInASoundImage) {
  const Outcome outcome = HandMade().check();
  EXPECT_EQ(outcome.text(), "");
  EXPECT_EQ(outcome.check.image_end, 8 * kCluster);
  EXPECT_EQ(outcome.check.total_clusters, 8u);
  EXPECT_EQ(outcome.check.clusters.allocated, 4u);
  EXPECT_EQ(outcome.check.clusters.compressed, 2u);
  EXPECT_EQ(outcome.check.clusters.fragmented, 2u);
}

TEST(Qcow2Check, KnowsEveryWidthOfRefcounts) {
  for (unsigned order = 0; order <= 6; ++order) {
    HandMade image(3, order);
    EXPECT_EQ(image.check().text(), "") << order;
    image.add_cluster();
    image.set_refcount(8, 1);
    EXPECT_EQ(image.check().leaks(), 1u) << order;
  }
}

TEST(Qcow2Check, SaysOfARefcountThatIsTooNarrowWhatItIs) {
  HandMade image(3, 0);
  image.put64(image.l2(3), image.get64(image.l2(2)));
  EXPECT_TRUE(image.check().tells_of("cluster 7 has refcount 1 and 2 references"));
}

TEST(Qcow2Check, KnowsVersion2) { EXPECT_EQ(HandMade(2).check().text(), ""); }

TEST(Qcow2Check, FindsNothingInWhatTheLayoutWrites) {
  for (const std::uint64_t cluster : {512u, 4096u, 65536u}) {
    std::mt19937 random(7);
    const Geometry geometry = Geometry::of(900 * cluster, cluster);
    Layout layout(geometry);
    std::vector<std::byte> data(cluster, std::byte{42});
    MemoryImage image;
    for (std::uint64_t i = 0; i < geometry.guest_clusters; ++i) {
      if (random() % 3 == 0) continue;
      WriteBatch batch;
      layout.store({GuestOffset(i * cluster), data}, batch);
      image.apply(batch);
    }
    WriteBatch tables, header;
    layout.write_tables(tables);
    image.apply(tables);
    layout.write_header(header);
    image.apply(header);
    EXPECT_EQ(check_bytes(image.bytes()).text(), "") << cluster;
  }
}

// ---- refcounts --------------------------------------------------------------------------------------------------------------

TEST(Qcow2Check, ReportsLeakWhenRefcountExceedsReferences) {
  HandMade image;
  image.add_cluster();
  image.set_refcount(8, 1);
  const Finding finding = image.check().only();
  EXPECT_EQ(finding.kind, FindingKind::leak);
  EXPECT_EQ(finding.entry.table, Table::refcount_block);
  EXPECT_EQ(finding.entry.index, 8u);
  EXPECT_EQ(finding.entry.value, 1u);
  EXPECT_EQ(finding.entry.file_offset, image.kRefcounts + 16);
  EXPECT_EQ(finding.text, "refcount block entry 8 at 0x2010: 0x1: cluster 8 has refcount 1 and 0 references");
}

TEST(Qcow2Check, ReportsRefcountsPastTheEndOfTheFile) {
  HandMade image;
  image.set_refcount(1000, 3);
  EXPECT_EQ(image.check().only().kind, FindingKind::leak);
}

TEST(Qcow2Check, ReportsAReferenceWithoutARefcount) {
  HandMade image;
  image.set_refcount(5, 0);
  const Outcome outcome = image.check();
  EXPECT_EQ(outcome.leaks(), 0u);
  EXPECT_TRUE(outcome.tells_of("cluster 5 has refcount 0 and 1 reference"));
  EXPECT_TRUE(outcome.tells_of("COPIED is set, but the refcount is not one"));
}

TEST(Qcow2Check, ReportsReferencesWithoutARefcountBlock) {
  HandMade image;
  image.put64(kCluster, 0);
  const Outcome outcome = image.check();
  EXPECT_TRUE(outcome.tells_of("refcount table entry 0 at 0x1000: 0x0: cluster 0 has refcount 0 and 1 reference"));
  EXPECT_TRUE(outcome.tells_of("cluster 7 has refcount 0 and 2 references"));
}

TEST(Qcow2Check, ReportsARefcountTableThatIsMissing) {
  HandMade image;
  image.put32(56, 0);
  EXPECT_TRUE(image.check().tells_of("there is no refcount table"));
}

TEST(Qcow2Check, ReportsEachFaultOfARefcountTableEntry) {
  for (const auto& [value, says] :
       std::vector<std::pair<std::uint64_t, const char*>>{{2 * kCluster | 4, "reserved bits"},
                                                          {2 * kCluster + 512, "not aligned to a cluster"},
                                                          {100 * kCluster, "beyond the end of the file"},
                                                          {~std::uint64_t{0x1ff}, "not aligned to a cluster"},
                                                          {0xfffffffffffff000, "beyond the end of the file"},
                                                          {kCluster, "overlaps other metadata"}}) {
    HandMade image;
    image.put64(kCluster + 8, value);  // not the block that is needed
    EXPECT_TRUE(image.check().tells_of(std::string("refcount table entry 1 at 0x1008")) && image.check().tells_of(says)) << says;
  }
}

TEST(Qcow2Check, CountsMoreReferencesThanAByteHolds) {
  HandMade image;
  for (std::uint64_t i = 2; i < 8; ++i) image.put64(image.l2(i), image.get64(image.l2(2)));
  std::uint64_t references = 6;
  image.put64(24, 512 * kCluster);
  for (std::uint64_t i = 8; i < 400; ++i) image.put64(image.l2(i), image.get64(image.l2(2))), ++references;
  image.set_refcount(7, references);
  EXPECT_EQ(image.check().text(), "");
  image.set_refcount(7, references - 1);
  EXPECT_TRUE(image.check().only().text.ends_with("cluster 7 has refcount 397 and 398 references"));
}

// ---- L1 and L2 --------------------------------------------------------------------------------------------------------------

struct Fault {
  const char* says;
  std::function<void(HandMade&)> make;
};

void expect_each(const std::vector<Fault>& faults) {
  for (const Fault& fault : faults) {
    HandMade image;
    fault.make(image);
    const Outcome outcome = image.check();
    EXPECT_GT(outcome.corruptions(), 0u) << fault.says;
    EXPECT_TRUE(outcome.tells_of(fault.says)) << fault.says << " not in:\n" << outcome.text();
  }
}

TEST(Qcow2Check, ReportsEachFaultOfATable) {
  using I = HandMade;
  expect_each({
      {"L1 table entry 0 at 0x3000: 0x4000: COPIED is not set", [](I& i) { i.put64(i.kL1, 4 * kCluster); }},
      {"L1 table entry 0 at 0x3000: 0x9000000000004000: reserved", [](I& i) { i.put64(i.kL1, 4 * kCluster | 9ull << 60); }},
      {"L1 table entry 0 at 0x3000: 0x8000000000000000: names no L2 table", [](I& i) { i.put64(i.kL1, kEntryCopied); }},
      {"the L2 table is not aligned", [](I& i) { i.put64(i.kL1, (4 * kCluster + 512) | kEntryCopied); }},
      {"points beyond the end of the file", [](I& i) { i.put64(i.kL1, 40 * kCluster | kEntryCopied); }},
      {"what it points at overlaps other metadata", [](I& i) { i.put64(i.kL1, kCluster | kEntryCopied); }},
      {"L2 table entry 1 at 0x4008: 0x6000: COPIED is not set", [](I& i) { i.put64(i.l2(1), 6 * kCluster); }},
      {"L2 table entry 0 at 0x4000: 0x8000000000005002: reserved",
       [](I& i) { i.put64(i.l2(0), 5 * kCluster | kEntryCopied | 2); }},
      {"the cluster is not aligned", [](I& i) { i.put64(i.l2(0), (5 * kCluster + 512) | kEntryCopied); }},
      {"the cluster lies beyond the end", [](I& i) { i.put64(i.l2(0), 8 * kCluster | kEntryCopied); }},
      {"the cluster lies beyond the end", [](I& i) { i.put64(i.l2(0), kEntryOffsetMask & ~0xfffull); }},
  });
}

TEST(Qcow2Check, ReportsWhatOverlapsAlthoughTheRefcountsAgree) {
  for (const std::uint64_t cluster : {0u, 1u, 2u, 3u, 4u}) {
    HandMade image;
    image.put64(image.l2(0), cluster == 0 ? HandMade::descriptor(0, 0) : cluster * kCluster);
    image.set_refcount(5, 0), image.set_refcount(cluster, 2);
    if (cluster == 4) image.put64(image.kL1, 4 * kCluster);
    const Outcome outcome = image.check();
    EXPECT_TRUE(outcome.tells_of("the guest's data overlaps metadata")) << cluster << "\n" << outcome.text();
    EXPECT_EQ(outcome.text().find("refcount"), std::string::npos) << outcome.text();
  }
}

TEST(Qcow2Check, ReportsAClusterThatIsMappedTwice) {
  HandMade image;
  image.put64(image.l2(0), 5 * kCluster), image.put64(image.l2(5), 5 * kCluster), image.set_refcount(5, 2);
  const Finding finding = image.check().only();
  EXPECT_TRUE(finding.text.ends_with("the cluster is mapped twice"));
  EXPECT_EQ(finding.entry.index, 5u);
}

TEST(Qcow2Check, ReportsAPlainClusterOnACompressedOne) {
  HandMade image;
  image.put64(image.l2(6), 7 * kCluster), image.set_refcount(7, 3);
  EXPECT_TRUE(image.check().only().text.ends_with("a compressed and a plain cluster overlap"));
}

TEST(Qcow2Check, ReportsTheZeroFlagInVersion2Alone) {
  for (const unsigned version : {2u, 3u}) {
    HandMade image(version);
    image.put64(image.l2(5), kEntryZero);
    EXPECT_EQ(image.check().corruptions(), version == 2 ? 1u : 0u);
  }
}

TEST(Qcow2Check, ReadsAnL2TableOnceHoweverOftenItIsNamed) {
  HandMade image;
  const std::uint64_t entries = 200'000;  // a table of 200000 L1 entries, all of them the same: 10^8 L2 entries
  const std::uint64_t table = 8 * kCluster;
  image.bytes().resize(table + round_up(entries * 8, kCluster));
  image.put32(36, static_cast<std::uint32_t>(entries)), image.put64(40, table);
  for (std::uint64_t i = 0; i < entries; ++i) image.put64(table + 8 * i, 4 * kCluster);
  image.set_refcount(4, 2);
  const Outcome outcome = image.check();
  EXPECT_TRUE(outcome.tells_of("the same L2 table as that of entry 0"));
  EXPECT_TRUE(outcome.tells_of("cluster 5 has refcount 1 and 200000 references"));
}

TEST(Qcow2Check, CountsAllFindingsAndKeepsAThousand) {
  HandMade image;
  image.bytes().resize(2000 * kCluster);
  for (std::uint64_t cluster = 8; cluster < 2000; ++cluster) image.set_refcount(cluster, 1);
  const Outcome outcome = image.check();
  EXPECT_EQ(outcome.leaks(), 1992u);
  EXPECT_EQ(outcome.check.findings.kept().size(), Findings::kMostKept);
}

// ---- the end of the file ----------------------------------------------------------------------------------------------------

TEST(Qcow2Check, ReportsAPlainClusterThatTheFilesEndCuts) {
  HandMade image;
  image.add_cluster();
  image.set_refcount(8, 1), image.put64(image.l2(5), 8 * kCluster | kEntryCopied);
  EXPECT_EQ(image.check().text(), "");
  for (const std::size_t cut : {std::size_t{1}, std::size_t{512}, std::size_t{kCluster - 1}}) {
    HandMade shorter = image;
    shorter.bytes().resize(image.bytes().size() - cut);
    EXPECT_TRUE(shorter.check().only().text.ends_with("the cluster is cut off by the end of the file")) << cut;
  }
}

TEST(Qcow2Check, NeedsOfTheLastClusterOnlyWhatTheGuestHas) {
  HandMade image;
  image.add_cluster();
  image.set_refcount(8, 1), image.put64(image.l2(7), 8 * kCluster | kEntryCopied), image.put64(24, 7 * kCluster + 512);
  image.bytes().resize(8 * kCluster + 512);
  EXPECT_EQ(image.check().text(), "");
  image.bytes().resize(8 * kCluster + 511);
  EXPECT_EQ(image.check().corruptions(), 1u);
}

TEST(Qcow2Check, ReportsACompressedClusterThatTheFilesEndCuts) {
  HandMade image;
  const std::size_t end = 7 * kCluster + 2048 + image.stream_bytes;
  image.bytes().resize(end);  // as QEMU leaves it: not even a whole sector
  EXPECT_EQ(image.check().text(), "");
  image.bytes().resize(end - 20);
  EXPECT_TRUE(image.check().only().text.find("does not decode") != std::string::npos);
  image.bytes().resize(end - 600);
  EXPECT_TRUE(image.check().tells_of("the compressed cluster is cut off by the end of the file"));
}

// ---- compressed clusters ----------------------------------------------------------------------------------------------------

TEST(Qcow2Check, ReportsEachFaultOfACompressedCluster) {
  using I = HandMade;
  expect_each({
      {"COPIED is set for a compressed cluster", [](I& i) { i.put64(i.l2(2), i.get64(i.l2(2)) | kEntryCopied); }},
      {"cut off by the end", [](I& i) { i.put64(i.l2(3), i.descriptor(7 * kCluster + 2048, 7)); }},
      {"beyond the end of the file", [](I& i) { i.put64(i.l2(3), i.descriptor(7 * kCluster + 2048, 15)); }},
      {"L2 table entry 2 at 0x4010", [](I& i) { i.put64(7 * kCluster, 0xffffffffffffffff); }},
      {"does not decode", [](I& i) { i.put64(7 * kCluster, 0xffffffffffffffff); }},
      {"its data is not encrypted", [](I& i) { i.put32(32, kCryptAes); }},
  });
}

TEST(Qcow2Check, TakesASectorCountThatIsTooLarge) {
  HandMade image;
  image.put64(image.l2(2), HandMade::descriptor(7 * kCluster, (image.stream_bytes - 1) / 512 + 1));
  EXPECT_EQ(image.check().text(), "");
}

TEST(Qcow2Check, WantsNoCompressedClustersBesideADataFile) {
  HandMade image(3, 4, kIncompatDataFile);
  EXPECT_TRUE(image.check().tells_of("a compressed cluster in an image with an external data file"));
}

// ---- the header -------------------------------------------------------------------------------------------------------------

TEST(Qcow2Check, TellsOfTheHeadersBits) {
  EXPECT_EQ(HandMade(3, 4, kIncompatCorrupt).check().corruptions(), 1u);
  const Outcome dirty = HandMade(3, 4, kIncompatDirty).check();
  EXPECT_EQ(dirty.only().kind, FindingKind::note);
}

TEST(Qcow2Check, RefusesWhatQemuDoesNotOpen) {
  const std::vector<std::pair<const char*, std::function<void(HandMade&)>>> faults{
      {"version", [](HandMade& i) { i.put32(4, 4); }},
      {"cluster_bits", [](HandMade& i) { i.put32(20, 22); }},
      {"incompatible_features", [](HandMade& i) { i.put64(72, 1u << 7); }},
      {"autoclear_features", [](HandMade& i) { i.put64(88, kAutoclearRawData); }},
      {"snapshot table", [](HandMade& i) { i.put64(64, 512); }},
      {"extension", [](HandMade& i) { i.put64(8, 116); }},
      {"extension", [](HandMade& i) { i.put32(116, 0x10000); }},
      {"refcount_order", [](HandMade& i) { i.put32(96, 7); }},
      {"l1_size", [](HandMade& i) { i.put32(36, 0); }},
      {"L1 table", [](HandMade& i) { i.put64(40, 3 * kCluster + 8); }},
      {"refcount table", [](HandMade& i) { i.put64(48, kCluster + 512); }},
      {"refcount table", [](HandMade& i) { i.put32(56, 0x10000); }},
      {"nb_snapshots", [](HandMade& i) { i.put32(60, 70000); }},
      {"compression_type", [](HandMade& i) { i.bytes()[104] = std::byte{1}; }},
      {"compression_type", [](HandMade& i) { i.put64(72, kIncompatCompression); }},
      {"cluster_bits", [](HandMade& i) { i.put64(72, kIncompatExtendedL2); }},
  };
  for (const auto& [field, make] : faults) {
    HandMade image;
    make(image);
    try {
      image.check();
      ADD_FAILURE() << field;
    } catch (const FormatError& error) {
      EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
    }
  }
}

TEST(Qcow2Check, RefusesReferencesThatNoMemoryWouldCount) {
  constexpr std::size_t kMost = std::size_t{8} << 20;
  ClusterMap scattered(std::uint64_t{1} << 24, kMost);
  EXPECT_THROW(for (std::uint64_t i = 0; i < 200; ++i) scattered.add_references(i * ClusterMap::kBlockClusters, 1), FormatError);
  ClusterMap overflowing(std::uint64_t{1} << 24, kMost);
  EXPECT_THROW(for (std::uint64_t i = 0; i < 200'000; ++i) overflowing.add_references(i, 1000), FormatError);
  EXPECT_THROW(ClusterMap((std::uint64_t{1} << 36) + 1), FormatError);
}

/// A table that is said to be as long as it may be, in a file of some KiB.
TEST(Qcow2Check, ReadsNoMoreOfATableThanIsInTheFile) {
  HandMade image;
  image.put32(36, kMaxL1Bytes / 8);
  image.put32(56, kMaxRefcountTableBytes / kCluster);
  std::size_t most = 0;
  const ReadUpTo read = [&](std::uint64_t offset, std::span<std::byte> into) {
    most = std::max(most, into.size());
    const std::size_t got = std::min<std::size_t>(into.size(), image.bytes().size() - offset);
    std::memcpy(into.data(), image.bytes().data() + offset, got);
    return got;
  };
  const MetadataCheck check = check_metadata(read, image.bytes().size(), parse_check_header(image.bytes()));
  EXPECT_GE(check.findings.count(FindingKind::corruption), 2u);
  EXPECT_LE(most, image.bytes().size());
}

TEST(Qcow2Check, RefusesTablesThatLieOnEachOtherInHundredsOfLayers) {
  HandMade image = with_snapshot();
  const auto add_snapshots = [&](std::uint32_t count) {
    image.bytes().resize(10 * kCluster + 64 * count);
    image.put32(60, count), image.put64(64, 10 * kCluster);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t at = 10 * kCluster + 56 * i;
      image.put64(at, 0), image.put32(at + 8, static_cast<std::uint32_t>(image.bytes().size() / 8)), image.put32(at + 36, 16);
    }
  };
  add_snapshots(20);
  EXPECT_TRUE(image.check().tells_of("overlaps other metadata"));
  add_snapshots(1000);
  EXPECT_THROW(image.check(), FormatError);
}

// ---- anything ---------------------------------------------------------------------------------------------------------------

TEST(Qcow2Check, SurvivesWhateverStandsInTheTables) {
  std::mt19937_64 random(20261126);
  const std::vector<HandMade> seeds{HandMade(), HandMade(2), with_snapshot(), with_bitmap(), HandMade(3, 1)};
  std::uint64_t found = 0;
  for (int round = 0; round < 6'000; ++round) {
    HandMade image = seeds[random() % seeds.size()];
    for (std::uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      const std::uint64_t places[] = {8 * (random() % 18),
                                      kCluster,
                                      HandMade::kL1,
                                      HandMade::l2(random() % 8),
                                      HandMade::kRefcounts + 8 * (random() % 3),
                                      8 * kCluster + 8 * (random() % 6)};
      const std::uint64_t at = places[random() % 6];
      if (at + 8 <= image.bytes().size()) image.put64(at, random() % 2 ? random() : image.get64(at) ^ 1ull << random() % 64);
    }
    try {
      found += image.check().corruptions() != 0;
    } catch (const FormatError&) {
      ++found;
    }
  }
  EXPECT_GT(found, 3'000u);
}

}  // namespace
}  // namespace nasbackup::qcow2
