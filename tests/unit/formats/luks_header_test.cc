// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Headers that we compose, opened by ourselves, by qemu-img and by cryptsetup.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "crypto/aes_xts.h"
#include "formats/format_error.h"
#include "tests/unit/formats/luks_sample.h"

namespace nasbackup::luks {
namespace {

HeaderFacts facts_of(const SampleHeader& sample) { return parse_header(sample.bytes, 4u << 20, Place::container); }

KeyRing ring_of(std::initializer_list<std::string_view> passphrases, int* derivations = nullptr) {
  std::vector<KeyRing::Passphrase> all;
  for (const auto text : passphrases) all.push_back(passphrase(text));
  const auto count = [derivations](const SlotKdf& kdf, std::span<const std::byte> bytes, std::size_t size, std::stop_token stop) {
    if (derivations != nullptr) ++*derivations;
    return derive_slot_key(kdf, bytes, size, std::move(stop));
  };
  return KeyRing(std::move(all), {}, count);
}

TEST(AComposedHeader, IsOpenedByItsPassphrase) {
  const SampleHeader sample = sample_header();
  const auto unlocked = ring_of({"wrong", "correct horse"}).unlock(facts_of(sample), sample.bytes);
  ASSERT_TRUE(unlocked);
  EXPECT_EQ(to_hex(unlocked->volume_key.bytes()), to_hex(sample.volume_key.bytes()));
  EXPECT_EQ(unlocked->slot, 0u);
  EXPECT_EQ(unlocked->passphrase, 1u);
}

TEST(AComposedHeader, IsNotOpenedByAnother) {
  const SampleHeader sample = sample_header();
  EXPECT_FALSE(ring_of({"wrong", "", "correct horse\n"}).unlock(facts_of(sample), sample.bytes));
  EXPECT_FALSE(ring_of({}).unlock(facts_of(sample), sample.bytes));
}

TEST(AComposedHeader, IsNotOpenedOnceItsMaterialIsDamaged) {
  SampleHeader sample = sample_header();
  sample.bytes[4096 + 100'000] ^= std::byte{1};
  EXPECT_FALSE(ring_of({"correct horse"}).unlock(facts_of(sample), sample.bytes));
}

TEST(AComposedHeader, IsTheSameForTheSameRandomBytes) {
  EXPECT_EQ(sample_header().bytes, sample_header().bytes);
  EXPECT_NE(sample_header().bytes, sample_header("correct horse", sample_kdf(), 3).bytes);
}

TEST(AComposedHeader, HasNothingInTheSlotsThatAreNotInUse) {
  const auto bytes = sample_header().bytes;
  ASSERT_EQ(bytes.size(), 2u << 20);
  EXPECT_EQ(std::count(bytes.begin() + 512 * 512, bytes.end(), std::byte{0}), (4096 - 512) * 512);
  EXPECT_EQ(sample_header("p", sample_kdf(), 2, kPayloadInQcow2).bytes.size(), 2'068'480u);
}

static_assert(digest_iterations(2'000'000) == 250'000 && digest_iterations(1000) == 1000);

TEST(AKeyRing, DerivesOnceForImagesThatShareSaltAndCount) {
  const SampleHeader one = sample_header("p", sample_kdf(), 2), two = sample_header("p", sample_kdf(), 3);
  const SampleHeader other = sample_header("p", sample_kdf(1001), 4);
  int derivations = 0;
  KeyRing ring = ring_of({"wrong", "p"}, &derivations);
  EXPECT_TRUE(ring.unlock(facts_of(one), one.bytes));
  EXPECT_EQ(derivations, 2);
  EXPECT_TRUE(ring.unlock(facts_of(two), two.bytes));
  EXPECT_EQ(derivations, 2);
  EXPECT_TRUE(ring.unlock(facts_of(other), other.bytes));
  EXPECT_EQ(derivations, 4);
  EXPECT_NE(to_hex(one.volume_key.bytes()), to_hex(two.volume_key.bytes()));
}

TEST(AKeyRing, RefusesMaterialThatIsNotThere) {
  SampleHeader sample = sample_header();
  const HeaderFacts facts = facts_of(sample);
  sample.bytes.resize(4096 + 255'999);
  EXPECT_THROW(ring_of({"correct horse"}).unlock(facts, sample.bytes), FormatError);
}

TEST(AKeySlot, OpensOnceItIsEnabledAndNotAfterItIsDisabled) {
  SampleHeader sample = sample_header();
  const SlotKdf kdf = sample_kdf(1234);
  const auto phdr = std::span(sample.bytes).first<sizeof(Phdr)>();
  CountingRandom random(9);
  const auto material = std::span(sample.bytes).subspan((8 + 3 * 504) * 512, material_bytes(64));
  random.fill(material);
  seal_key_material(kdf.hash, sample.volume_key.bytes(), derive_slot_key(kdf, bytes_of("new"), 64).bytes(), material);
  EXPECT_FALSE(ring_of({"new"}).unlock(facts_of(sample), sample.bytes));
  enable_slot(phdr, 3, kdf);
  EXPECT_EQ(ring_of({"new"}).unlock(facts_of(sample), sample.bytes).value().slot, 3u);
  EXPECT_TRUE(ring_of({"correct horse"}).unlock(facts_of(sample), sample.bytes));
  disable_slot(phdr, 0);
  EXPECT_FALSE(ring_of({"correct horse"}).unlock(facts_of(sample), sample.bytes));
  EXPECT_TRUE(ring_of({"new"}).unlock(facts_of(sample), sample.bytes));
}

// ---- the judges ------------------------------------------------------------------------------------------------------------

bool have(const std::string& program) { return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0; }

/// A container with one MiB of 'A' in it, and its passphrases.
class LuksContainer : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "luks-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    const SampleHeader sample = sample_header();
    std::vector<std::byte> payload(1 << 20, std::byte{'A'});
    write("plain", payload);
    crypto::AesXts(sample.volume_key.bytes()).encrypt(0, payload);
    std::vector<std::byte> container = sample.bytes;
    container.insert(container.end(), payload.begin(), payload.end());
    write("container", container);
    write("good", bytes_of("correct horse"));
    write("bad", bytes_of("correct horsf"));
  }
  void TearDown() override { EXPECT_EQ(std::system(("rm -r " + dir_).c_str()), 0); }

  void write(const std::string& name, std::span<const std::byte> bytes) const {
    std::ofstream(dir_ + "/" + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  int run(const std::string& command) const { return std::system(("cd " + dir_ + " && " + command + " >log 2>&1").c_str()); }

  std::string dir_;
};

TEST_F(LuksContainer, IsOpenedByCryptsetup) {
  if (!have("cryptsetup")) GTEST_SKIP() << "missing: cryptsetup";
  EXPECT_EQ(run("cryptsetup isLuks --type luks1 container"), 0);
  EXPECT_EQ(run("cryptsetup luksOpen --test-passphrase --key-file good container"), 0);
  EXPECT_NE(run("cryptsetup luksOpen --test-passphrase --key-file bad container"), 0);
}

TEST_F(LuksContainer, IsReadByQemuImg) {
  if (!have("qemu-img")) GTEST_SKIP() << "missing: qemu-img";
  const std::string compare =
      "qemu-img compare --object secret,id=s,file=KEY --image-opts driver=luks,key-secret=s,file.filename=container "
      "driver=raw,file.filename=plain";
  EXPECT_EQ(run("sh -c '" + std::string(compare).replace(compare.find("KEY"), 3, "good") + "'"), 0);
  EXPECT_NE(run("sh -c '" + std::string(compare).replace(compare.find("KEY"), 3, "bad") + "'"), 0);
}

}  // namespace
}  // namespace nasbackup::luks
