// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The digests of a disk through the whole pipeline: of what was read, whatever becomes of the bytes later, and the same file
// however the disk is read, cut and reported.
#include <gtest/gtest.h>

#include <random>

#include "engine/io/memory_source.h"
#include "engine/pipeline/disk_copy.h"
#include "formats/digest_reader.h"
#include "formats/qcow2_layout.h"
#include "tests/unit/crypto/counting_random.h"
#include "tests/unit/crypto/hex.h"
#include "tests/unit/formats/memory_image.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kPiece = 64u << 10;

std::vector<std::byte> patchy_disk(std::uint64_t size, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> disk(size);
  for (std::uint64_t at = 0; at < size;) {
    const std::uint64_t run = std::min<std::uint64_t>(1 + random() % 300'000, size - at);
    if (random() % 2 != 0)
      for (std::uint64_t i = 0; i < run; ++i) disk[at + i] = static_cast<std::byte>(random());
    at += run;
  }
  return disk;
}

/// Keeps what is written in memory, and flips a bit of the guest's data on its way if it is told to: the buffers are the
/// workers'.
class Target final : public BlockTarget {
 public:
  Target(MemoryImage& image, bool corrupts) : image_(image), corrupts_(corrupts) {}
  asio::awaitable<void> apply(WriteBatch& batch) override {
    for (const FileWrite& write : batch.writes())
      for (const FilePiece& piece : write.pieces)
        if (corrupts_ && piece.content == Content::guest_data) piece.bytes[100] ^= std::byte{1};
    image_.apply(batch);
    co_return;
  }
  asio::awaitable<void> flush() override { co_return; }
  asio::awaitable<std::uint64_t> close(std::uint64_t size) override { co_return size; }

 private:
  MemoryImage& image_;
  bool corrupts_;
};

struct Setting {
  unsigned threads = 2;
  unsigned workers = 4;
  bool holes = true;
  std::uint32_t shuffle = 0;
  std::uint64_t cluster = kPiece;
  std::uint64_t items = 8;  ///< pieces in one
  const char* compression = nullptr;
  bool corrupts = false;
  const ImageKey* key = nullptr;
};

struct Result {
  MemoryImage image, digests;
  DigestSummary summary;
};

Result copy(const std::vector<std::byte>& disk, const Setting& setting) {
  Result result;
  JobLoop job(setting.threads, {});
  Limiter limiter(job.executor(), job.stop(), {});
  auto source = std::make_unique<MemorySource>(job.executor(), disk, setting.holes, setting.workers);
  if (setting.shuffle != 0) source->shuffle_answers(setting.shuffle);
  std::optional<Compression> compression;
  if (setting.compression != nullptr) compression = parse_compression(setting.compression);
  DiskPipeline pipeline;
  pipeline.source = std::move(source);
  pipeline.begin_layout = [&] { return std::make_unique<qcow2::Layout>(qcow2::Geometry::of(disk.size(), setting.cluster)); };
  pipeline.target = std::make_unique<Target>(result.image, setting.corrupts);
  pipeline.encoder = std::make_unique<Encoder>(setting.cluster, compression, setting.threads);
  const std::uint64_t piece = digests::piece_size_for(setting.cluster);
  pipeline.digests =
      std::make_unique<DiskDigests>(piece, disk.size(), setting.key, std::make_unique<Target>(result.digests, false));
  pipeline.cluster = setting.cluster;
  pipeline.unit = piece;
  pipeline.item = setting.items * piece;
  pipeline.workers = setting.workers;
  DiskCopy disk_copy(job, std::move(pipeline), limiter, nullptr);
  job.run([&] { return disk_copy.run(); });
  result.summary = disk_copy.digests()->summary();
  return result;
}

digests::Reader reader_of(const MemoryImage& file) {
  const auto read = [bytes = file.bytes()](std::uint64_t offset, std::span<std::byte> into) {
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
  };
  return digests::Reader(read, file.bytes().size());
}

/// The pieces of which the digest file says something else than of these bytes.
std::vector<std::uint64_t> differing(const MemoryImage& file, std::vector<std::byte> disk, const ImageKey* key = nullptr) {
  digests::Reader reader = reader_of(file);
  reader.check_root();
  const std::uint64_t piece = reader.piece_size();
  const digests::PieceDigester digester =
      key == nullptr ? digests::PieceDigester(piece)
                     : digests::PieceDigester(piece, digests::tag_key(key->volume_key().bytes(), reader.salt()));
  disk.resize(reader.pieces() * piece);
  std::vector<std::uint64_t> found;
  for (std::uint64_t number = 0; number < reader.pieces(); ++number)
    if (!digester.matches(number, std::span(disk).subspan(number * piece, piece), reader.at(number))) found.push_back(number);
  return found;
}

TEST(Digests, AreThoseOfTheDiskAtEverySizeAndCluster) {
  for (const std::uint64_t size : {0u, 1u, 512u, 65535u, 65536u, 65537u, (3u << 20) + 777})
    for (const std::uint64_t cluster : {std::uint64_t{512}, std::uint64_t{4096}, kPiece, std::uint64_t{2} << 20}) {
      const auto disk = patchy_disk(size, 21);
      Setting setting;
      setting.cluster = cluster;
      setting.items = 2;
      const auto result = copy(disk, setting);
      EXPECT_EQ(reader_of(result.digests).virtual_size(), size);
      EXPECT_EQ(reader_of(result.digests).piece_size(), std::max(cluster, kPiece));
      EXPECT_TRUE(differing(result.digests, disk).empty()) << size << ' ' << cluster;
      EXPECT_EQ(result.summary.root, reader_of(result.digests).root());
      EXPECT_EQ(result.summary.file_size, result.digests.bytes().size());
    }
}

TEST(Digests, AreTheSameFileHoweverTheDiskIsReadAndCut) {
  const auto disk = patchy_disk((40 << 20) + 777, 22);
  const auto reference = copy(disk, {1, 1, true}).digests.bytes();
  EXPECT_TRUE(copy(disk, {16, 16, true}).digests.bytes() == reference);
  EXPECT_TRUE(copy(disk, {2, 8, false}).digests.bytes() == reference) << "zeroes read as data";
  EXPECT_TRUE(copy(disk, {2, 8, true, 3}).digests.bytes() == reference) << "answers out of order";
  EXPECT_TRUE(copy(disk, {2, 8, true, 0, 4096}).digests.bytes() == reference) << "smaller clusters";
  EXPECT_TRUE(copy(disk, {2, 8, true, 0, kPiece, 1}).digests.bytes() == reference) << "smaller items";
  EXPECT_TRUE(copy(disk, {2, 8, true, 0, kPiece, 8, "zlib:fast"}).digests.bytes() == reference) << "compressed";
}

TEST(Digests, AreOfTheBytesThatWereReadAndNotOfThoseThatAreWritten) {
  const auto disk = patchy_disk(4 << 20, 23);
  Setting setting;
  setting.corrupts = true;
  const auto result = copy(disk, setting);
  EXPECT_TRUE(differing(result.digests, disk).empty());
  const auto written = read_guest(result.image, disk.size(), kPiece);
  EXPECT_NE(written, disk);
  EXPECT_FALSE(differing(result.digests, written).empty());
}

TEST(Digests, ShowEveryPieceThatWasChangedBehindTheEncoderAndNoOther) {
  const auto disk = patchy_disk(4 << 20, 24);
  Setting setting;
  setting.corrupts = true;
  const auto result = copy(disk, setting);
  const auto written = read_guest(result.image, disk.size(), kPiece);
  std::vector<std::uint64_t> changed;
  for (std::uint64_t number = 0; number < disk.size() / kPiece; ++number)
    if (std::memcmp(disk.data() + number * kPiece, written.data() + number * kPiece, kPiece) != 0) changed.push_back(number);
  EXPECT_GT(changed.size(), 2u);
  EXPECT_EQ(differing(result.digests, written), changed);
}

TEST(Digests, AreKeyedByTheImagesVolumeKey) {
  const auto disk = patchy_disk(4 << 20, 25);
  CountingRandom random;
  JobKeys keys(std::make_shared<const crypto::Secret>(crypto::Secret::copy_of(bytes_of("pass"))), {1000, 1000}, random);
  const auto key = keys.next_image(), other = keys.next_image();
  Setting setting;
  setting.key = key.get();
  const auto result = copy(disk, setting);
  EXPECT_EQ(result.summary.kind, digests::Kind::gmac_aes_256);
  EXPECT_TRUE(differing(result.digests, disk, key.get()).empty());
  EXPECT_FALSE(differing(result.digests, disk, other.get()).empty());
  EXPECT_EQ(to_hex(reader_of(result.digests).salt()), to_hex(key->tag_salt()));
  setting.threads = 16;
  EXPECT_TRUE(copy(disk, setting).digests.bytes() == result.digests.bytes()) << "the same random bytes, the same file";
}

}  // namespace
}  // namespace nasbackup
