// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Images with what they stand on, made by qemu-img, opened with what somebody knows of it; and the streams that are kept on the
// way.
#include "engine/io/image_chain.h"

#include <gtest/gtest.h>

#include "engine/io/image_layer.h"
#include "formats/decompressor.h"
#include "tests/unit/io/nodes.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kCluster = 64u << 10, kSize = 16 * kCluster;

class ImageChainTest : public testing::Test {
 protected:
  void shell(const std::string& command) {
    const std::string line = "cd '" + folder_.file("") + "' && " + command;
    ASSERT_EQ(std::system(line.c_str()), 0) << command;
  }

  void qemu(const std::string& words) { shell("qemu-img " + words + " > log 2>&1 || { cat log; false; }"); }

  /// "base" of qcow2, compressed; "top" on it, in which the third cluster is another and the fifth is zero.
  void make_chain() {
    std::vector<std::byte> disk(kSize);
    for (std::size_t i = 0; i < disk.size(); ++i)
      disk[i] = static_cast<std::byte>("all work and no play "[i % 21] + i / kCluster);
    write_sparse(folder_.file("disk"), disk);
    qemu("convert -c -O qcow2 disk base");
    qemu("create -f qcow2 -b base -F qcow2 top");
    shell("qemu-io -f qcow2 -c 'write -P 7 128k 64k' -c 'write -z 256k 64k' top > /dev/null");
  }

  BackingPlace base(const std::string& name, bool unread = false) const { return {folder_.file("base"), "qcow2", name, unread}; }
  OpenedImage open(KnownBacking backing) const {
    return open_image({folder_.file("top"), "qcow2", false, nullptr, backing}, nullptr);
  }

  std::string complaint(const KnownBacking& backing) const {
    try {
      open(backing);
    } catch (const Fault& fault) {
      EXPECT_EQ(fault.kind(), FaultKind::damaged);
      return fault.what();
    }
    return "";
  }

  Folder folder_;
};

TEST_F(ImageChainTest, IsDamagedWhoseHeaderNamesAnotherFileThanItWasWrittenWith) {
  make_chain();
  EXPECT_EQ(complaint({{base("base")}, false, true}), "");
  EXPECT_NE(complaint({{base("other")}, false, true}).find("backing file: base: it was written with other"), std::string::npos);
  qemu("rebase -u -b '' top");
  EXPECT_NE(complaint({{base("base")}, false, true}), "");
  qemu("rebase -u -b ./base -F qcow2 top");
  EXPECT_NE(complaint({{base("base")}, false, true}), "");
  EXPECT_EQ(complaint({{base("")}, false, true}), "");
}

TEST_F(ImageChainTest, IsDamagedThatStandsOnMoreThanIsKnown) {
  make_chain();
  qemu("create -f qcow2 -b disk -F raw lowest");
  qemu("rebase -u -b lowest -F qcow2 base");
  EXPECT_NE(complaint({{base("base")}, false, true}).find("it was written without one"), std::string::npos);
}

TEST_F(ImageChainTest, LeavesToItsParentWhatItDoesNotHoldWhereThatIsNotRead) {
  make_chain();
  std::filesystem::remove(folder_.file("base"));
  const OpenedImage image = open({{base("base", true)}, false, true});
  std::string kinds;
  for (std::uint64_t at = 0; at < kSize; at += kCluster) {
    const Extent extent = image.layer->extent(GuestOffset(at), kCluster, kCluster);
    EXPECT_EQ(extent.range.length, kCluster);
    kinds += extent.kind == ExtentKind::parent ? 'p' : extent.kind == ExtentKind::zero ? 'z' : 'd';
  }
  EXPECT_EQ(kinds, "ppdpzppppppppppp");
  std::vector<std::byte> bytes(kCluster);
  image.layer->read(GuestOffset(2 * kCluster), bytes);
  EXPECT_EQ(bytes, std::vector<std::byte>(kCluster, std::byte{7}));
  EXPECT_THROW(image.layer->read(GuestOffset(kCluster), bytes), Fault);
}

TEST_F(ImageChainTest, GivesTheStreamsAwayThatItDecoded) {
  make_chain();
  const OpenedImage image = open({{base("base")}, false, true});
  std::vector<std::byte> bytes(kSize), room(kSize), cluster(kCluster);
  KeptStreams kept(Codec::zlib, kCluster, room);
  image.layer->read(GuestOffset(0), bytes, &kept);
  const auto decoder = make_decompressor(Codec::zlib);
  for (std::uint64_t at = 0; at < kSize; at += kCluster) {
    const auto stream = kept.at(GuestOffset(at));
    ASSERT_EQ(stream.empty(), at == 2 * kCluster || at == 4 * kCluster) << at;
    if (stream.empty()) continue;
    EXPECT_EQ(decoder->decompress(stream, cluster), stream.size());
    EXPECT_TRUE(std::equal(cluster.begin(), cluster.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at))) << at;
  }
  EXPECT_LT(kept.room().size(), room.size());
}

TEST_F(ImageChainTest, KeepsNoStreamOfAnotherKindNorOfAPartOfACluster) {
  make_chain();
  const OpenedImage image = open({{base("base")}, false, true});
  std::vector<std::byte> bytes(kSize), room(kSize);
  for (KeptStreams kept : {KeptStreams(Codec::zstd, kCluster, room), KeptStreams(Codec::zlib, 2 * kCluster, room)}) {
    image.layer->read(GuestOffset(0), bytes, &kept);
    EXPECT_EQ(kept.room().size(), room.size());
  }
  KeptStreams kept(Codec::zlib, kCluster, room);
  image.layer->read(GuestOffset(0), std::span(bytes).first(kCluster / 2), &kept);
  EXPECT_EQ(kept.room().size(), room.size());
}

}  // namespace
}  // namespace nasbackup
