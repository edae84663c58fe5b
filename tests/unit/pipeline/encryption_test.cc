// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Disks encrypted on the way: what the header and the passphrase give back, the same bytes for the same random source, and no
// plaintext at any time.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "engine/io/lifeline_state.h"
#include "engine/pipeline/build_pipeline.h"
#include "formats/luks_key_ring.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_geometry.h"
#include "formats/qcow2_header_reader.h"
#include "tests/unit/crypto/counting_random.h"
#include "tests/unit/io/nodes.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kCluster = 4096;
constexpr char kMark[] = "a marked disk's plaintext, which must not be found";

std::shared_ptr<const crypto::Secret> passphrase() {
  constexpr char kWords[] = "correct horse";
  return std::make_shared<const crypto::Secret>(crypto::Secret::copy_of(std::as_bytes(std::span(kWords, sizeof kWords - 1))));
}

/// Text with a mark in each sector, random data, and zeroes.
std::vector<std::byte> marked_disk(std::uint64_t size) {
  std::mt19937 random(2);
  std::vector<std::byte> disk(size);
  for (std::uint64_t at = 0; at < size; ++at) {
    if (at / 20000 % 3 == 0) disk[at] = static_cast<std::byte>(kMark[at % 512 % sizeof kMark]);
    if (at / 20000 % 3 == 1) disk[at] = static_cast<std::byte>(random());
  }
  return disk;
}

struct Kind {
  const char* format;
  const char* compression;  ///< null: none
};

class Encryption : public testing::TestWithParam<Kind> {
 protected:
  std::vector<std::byte> write(const std::vector<std::byte>& disk, unsigned threads, const std::string& name) {
    write_sparse(folder_.file("disk"), disk);
    CountingRandom random;
    JobLoop job(threads, {});
    JobKeys keys(passphrase(), {1000, 1000}, random);
    Limiter limiter(job.executor(), job.stop(), {});
    TargetPlace target{folder_.file(name), GetParam().format, std::nullopt, keys.next_image()};
    if (GetParam().compression != nullptr) target.compression = parse_compression(GetParam().compression);
    const SourcePlace source{folder_.file("disk"), "raw"};
    job.run([&]() -> asio::awaitable<void> {
      const PipelineBounds bounds{64u << 20, 0, kCluster};
      DiskPipeline pipeline = co_await build_pipeline(job, source, target, bounds, nullptr);
      DiskCopy copy(job, std::move(pipeline), limiter, nullptr);
      co_await copy.run();
    });
    return read_file(folder_.file(name));
  }
  bool in_container() const { return GetParam().compression != nullptr || std::string(GetParam().format) == "luks"; }
  Folder folder_;
};

/// The payload of a container, decrypted; of a qcow2 with a header inside, nothing is changed but its volume key found.
crypto::Secret volume_key_of(std::span<const std::byte> header, luks::Place place) {
  luks::KeyRing ring({passphrase()});
  auto unlocked = ring.unlock(luks::parse_header(header, header.size(), place), header);
  EXPECT_TRUE(unlocked.has_value());
  return std::move(unlocked->volume_key);
}

TEST_P(Encryption, SameInputAndRandomSourceGiveTheSameBytesWhateverTheThreads) {
  const auto disk = marked_disk((1 << 20) + 512);
  const auto reference = write(disk, 1, "one");
  EXPECT_TRUE(write(disk, 2, "two") == reference);
  EXPECT_TRUE(write(disk, 16, "sixteen") == reference);
}

class RawInAContainer : public Encryption {};

TEST_P(RawInAContainer, IsWrittenToTheEndOfItsLastSector) {
  auto disk = marked_disk(1 << 20);
  std::fill(disk.end() - 300'000, disk.end(), std::byte{0});
  disk.resize(disk.size() - 511);
  const auto file = write(disk, 2, "image");
  std::vector<std::byte> payload(file.begin() + (2 << 20), file.end());
  crypto::AesXts(volume_key_of(file, luks::Place::container).bytes()).decrypt(0, payload);
  disk.resize(1 << 20);
  EXPECT_TRUE(payload == disk);
}

TEST_P(Encryption, LeavesNoPlaintextInTheFile) {
  const auto file = write(marked_disk(1 << 20), 2, "image");
  const std::span<const char> text(reinterpret_cast<const char*>(file.data()), file.size());
  EXPECT_EQ(std::search(text.begin(), text.end(), kMark, kMark + 16), text.end());
}

TEST_P(Encryption, ThePassphraseGivesTheDataBack) {
  const auto disk = marked_disk(1 << 20);
  auto file = write(disk, 2, "image");
  if (in_container()) {
    ASSERT_TRUE(luks::has_magic(file));
    const auto key = volume_key_of(file, luks::Place::container);
    std::vector<std::byte> payload(file.begin() + (2 << 20), file.end());
    crypto::AesXts(key.bytes()).decrypt(0, payload);
    if (GetParam().compression == nullptr) {
      EXPECT_TRUE(payload == disk);
      return;
    }
    const auto facts = qcow2::parse_header(payload);
    EXPECT_EQ(facts.virtual_size, disk.size());
    EXPECT_EQ(facts.crypt_method, 0u);
    return;  // what is in it is compared by qemu-img (tests/cli)
  }
  EXPECT_EQ(qcow2::parse_header(file).crypt_method, qcow2::kCryptLuks);
  const auto geometry = qcow2::Geometry::of(disk.size(), kCluster, 4040 * 512);
  const auto key = volume_key_of(std::span(file).subspan(geometry.luks_offset.value, geometry.luks_bytes), luks::Place::in_qcow2);
  const crypto::AesXts cipher(key.bytes());
  // The first guest cluster is the first behind the LUKS header; its tweak is its place in the file.
  const std::uint64_t at = geometry.luks_offset.value + geometry.luks_clusters * kCluster;
  const auto cluster = std::span(file).subspan(at, kCluster);
  cipher.decrypt(at / 512, cluster);
  EXPECT_TRUE(std::equal(cluster.begin(), cluster.end(), disk.begin()));
}

/// A job that fails at its beginning. Only under ASan a read of what is gone shows.
TEST(AKey, MayBeLetGoWhileItsDigestIsComputed) {
  CountingRandom random;
  JobKeys keys(passphrase(), {1000, 300'000}, random);
  for (int i = 0; i < 4; ++i) keys.next_image();
}

INSTANTIATE_TEST_SUITE_P(Luks, RawInAContainer, testing::Values(Kind{"luks", nullptr}));
INSTANTIATE_TEST_SUITE_P(Kinds, Encryption, testing::Values(Kind{"qcow2", nullptr}, Kind{"qcow2", "zlib"}, Kind{"luks", nullptr}),
                         [](const auto& one) {
                           return std::string(one.param.format) + (one.param.compression != nullptr ? "_compressed" : "");
                         });

}  // namespace
}  // namespace nasbackup
