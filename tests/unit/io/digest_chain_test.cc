// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What is known of the pieces of an increment: by its own digest file, and by those of what it stands on.
#include "engine/io/digest_chain.h"

#include <gtest/gtest.h>

#include "engine/io/fault.h"
#include "formats/digest_writer.h"
#include "tests/unit/formats/memory_image.h"
#include "tests/unit/io/nodes.h"

namespace nasbackup {
namespace {

using digests::PieceKind;

constexpr std::uint64_t kPiece = 64u << 10;

class DigestChainTest : public testing::Test {
 protected:
  /// A digest file with a piece for each letter: z zero, p the parent's, else data whose tag is full of the letter.
  std::unique_ptr<DigestFile> file(const std::string& pieces, std::uint64_t piece = kPiece, std::uint64_t lacking = 0) {
    digests::Writer writer(digests::Kind::xxh3_128, piece, pieces.size() * piece - lacking, {});
    MemoryImage image;
    WriteBatch batch;
    for (const char letter : pieces) {
      digests::Tag tag;
      tag.fill(static_cast<std::byte>(letter));
      if (letter == 'z' || letter == 'p')
        writer.add_absent(letter == 'z' ? Absent::zero : Absent::parent, 1, batch);
      else
        writer.add(std::vector{digests::PieceDigest{PieceKind::data, tag}}, batch);
    }
    writer.finish(batch);
    image.apply(batch);
    const std::string path = folder_.file(std::to_string(files_++));
    write_sparse(path, image.bytes());
    return std::make_unique<DigestFile>(path, nullptr, nullptr);
  }

  DigestChain chain(const std::vector<std::string>& newest_first) {
    DigestChain chain(file(newest_first.front()));
    for (std::size_t i = 1; i < newest_first.size(); ++i) chain.add(file(newest_first[i]));
    return chain;
  }

  static std::string read(DigestChain& chain, std::uint64_t pieces) {
    std::string text;
    for (std::uint64_t piece = 0; piece < pieces; ++piece) {
      const auto known = chain.at(piece).digest;
      text += known.kind == PieceKind::zero ? 'z' : known.kind == PieceKind::parent ? 'p' : static_cast<char>(known.tag[0]);
    }
    return text;
  }

 private:
  Folder folder_;
  int files_ = 0;
};

TEST_F(DigestChainTest, TakesEachPieceFromTheNewestThatHasIt) {
  DigestChain three = chain({"pAzpppB", "pCpzDpp", "EFGHIzJ"});
  EXPECT_EQ(read(three, 7), "EAzzDzB");
  DigestChain broken = chain({"ppA", "pBp"});
  EXPECT_EQ(read(broken, 3), "pBA");
}

/// Else what lies under a long run of the parent's pieces would pass for one run.
TEST_F(DigestChainTest, EndsARunWhereAnyFileOnTheWayEndsOne) {
  DigestChain two = chain({"ppppA", "zzBBB"});
  EXPECT_EQ(two.at(0).run_until, 2u);
  EXPECT_EQ(two.at(4).run_until, 5u);
  DigestChain other = chain({"ppAzz", "zzzzz"});
  EXPECT_EQ(other.at(1).run_until, 2u);
  EXPECT_EQ(other.at(3).run_until, 5u);
}

TEST_F(DigestChainTest, ComparesWithTheDigesterOfTheFileThatKnows) {
  DigestChain two(file("pA"));
  auto parent = file("BC");
  const digests::PieceDigester* below = &parent->digester();
  two.add(std::move(parent));
  EXPECT_EQ(two.at(0).digester, below);
  EXPECT_NE(two.at(1).digester, below);
}

TEST_F(DigestChainTest, RefusesAParentOfAnotherSizeAndSaysWhich) {
  const auto complaint = [&](std::unique_ptr<DigestFile> parent) -> std::string {
    DigestChain chain(file("pp"));
    const std::string path = parent->path();
    try {
      chain.add(std::move(parent));
    } catch (const Fault& fault) {
      EXPECT_EQ(fault.kind(), FaultKind::damaged);
      EXPECT_TRUE(std::string(fault.what()).starts_with(path));
      return fault.what();
    }
    return "";
  };
  EXPECT_EQ(complaint(file("AB")), "");
  EXPECT_NE(complaint(file("ABC")).find("virtual size: 196608, what stands on it has 131072"), std::string::npos);
  EXPECT_NE(complaint(file("AB", kPiece, 512)).find("virtual size"), std::string::npos);
  EXPECT_NE(complaint(file("A", 2 * kPiece)).find("piece size"), std::string::npos);
}

}  // namespace
}  // namespace nasbackup
