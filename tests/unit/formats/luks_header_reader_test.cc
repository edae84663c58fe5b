// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a LUKS header may say: all that QEMU refuses is refused, with a line that names the place.
#include "formats/luks_header_reader.h"

#include <gtest/gtest.h>

#include <random>

#include "formats/format_error.h"
#include "tests/unit/formats/luks_sample.h"

namespace nasbackup::luks {
namespace {

constexpr std::uint64_t kRoom = 4u << 20;

std::string complaint(const std::vector<std::byte>& header, std::uint64_t room = kRoom, Place place = Place::container) {
  try {
    require_supported(parse_header(header, room, place));
  } catch (const FormatError& error) {
    return error.what();
  }
  return "none";
}

std::string complaint_with(std::size_t offset, std::uint32_t value, std::uint64_t room = kRoom, Place place = Place::container) {
  auto header = sample_header().bytes;
  poke(header, offset, value);
  return complaint(header, room, place);
}

std::string complaint_with_text(std::size_t offset, const std::string& text) {
  auto header = sample_header().bytes;
  std::memcpy(header.data() + offset, text.data(), text.size());
  return complaint(header);
}

void expect_says(const std::string& complaint, const std::string& what) {
  EXPECT_NE(complaint.find(what), std::string::npos) << complaint;
  EXPECT_TRUE(complaint.starts_with("LUKS header: ")) << complaint;
}

TEST(ALuksHeader, IsDescribedAsItWasComposed) {
  const HeaderFacts facts = parse_header(sample_header().bytes, kRoom, Place::container);
  EXPECT_EQ(facts.cipher, "aes-xts-plain64");
  EXPECT_EQ(facts.hash, "sha256");
  EXPECT_EQ(facts.key_bytes, 64u);
  EXPECT_EQ(facts.payload_offset, 2u << 20);
  EXPECT_EQ(facts.uuid.size(), 36u);
  EXPECT_EQ(facts.uuid[14], '4');
  EXPECT_EQ(facts.slots_in_use(), 1u);
  EXPECT_EQ(facts.kdf(0), sample_kdf());
  for (unsigned i = 0; i < kSlots; ++i) EXPECT_EQ(facts.slots[i].material_offset, (8 + 504 * i) * 512) << i;
}

TEST(ALuksHeader, MayEndBehindItsFixedPart) {
  auto header = sample_header().bytes;
  header.resize(592);
  EXPECT_EQ(complaint(header), "none");
  header.resize(591);
  expect_says(complaint(header), "ends at byte 591");
}

TEST(ALuksHeader, MustHaveMagicAndVersion1) {
  expect_says(complaint_with(0, 0), "no magic");
  expect_says(complaint({}), "no magic");
  expect_says(complaint_with(4, 0xbabe0002), "LUKS2 is not supported");
  expect_says(complaint_with(4, 0xbabe0003), "version: 3, must be 1");
}

TEST(ALuksHeader, MustHaveNamesThatEnd) {
  expect_says(complaint_with_text(8, std::string(32, 'a')), "cipher name: does not end");
  expect_says(complaint_with_text(40, std::string(32, 'a')), "cipher mode: does not end");
  expect_says(complaint_with_text(72, std::string(32, 'a')), "hash: does not end");
  expect_says(complaint_with_text(168, std::string(40, 'a')), "uuid: does not end");
}

TEST(ALuksHeader, MustHaveACipherAndHashThatWeHave) {
  expect_says(complaint_with_text(8, std::string("serpent\0", 8)), "cipher: serpent-xts-plain64, only aes-xts-plain64");
  expect_says(complaint_with_text(40, std::string("cbc-essiv:sha256\0", 17)), "cipher: aes-cbc-essiv:sha256");
  expect_says(complaint_with_text(72, std::string("whirlpool\0", 10)), "hash: whirlpool, must be sha1, sha256 or sha512");
  expect_says(complaint_with(108, 48), "key_bytes: 48, must be 32 or 64");
}

TEST(ALuksHeader, MustHaveSizesWithinBounds) {
  expect_says(complaint_with(108, 0), "key_bytes: 0");
  expect_says(complaint_with(108, 65), "key_bytes: 65");
  expect_says(complaint_with(164, 0), "volume key digest: iterations: 0");
  expect_says(complaint_with(164, 0xffffffff), "volume key digest: iterations: 4294967295");
  expect_says(complaint_with(slot_field(0, 4), 0), "key slot 0: iterations: 0");
  expect_says(complaint_with(slot_field(0, 4), (1u << 28) + 1), "key slot 0: iterations");
  EXPECT_EQ(complaint_with(slot_field(3, 4), 0), "none");  // not in use
}

TEST(ALuksHeader, MustHaveItsPayloadBehindItAndInTheFile) {
  expect_says(complaint_with(104, 0), "payload_offset: 0");
  expect_says(complaint_with(104, 7), "payload_offset: 7");
  expect_says(complaint_with(104, 0xffffffff), "beyond the file's 4194304 bytes");
  expect_says(complaint_with(104, 4096, 2u * 1024 * 1024 - 1), "beyond the file's");
  EXPECT_EQ(complaint_with(104, 4096, 2u << 20), "none");
}

TEST(ALuksHeader, MustHaveAllEightSlotsInPlace) {
  for (const unsigned slot : {0u, 7u}) {
    const std::string name = "key slot " + std::to_string(slot);
    expect_says(complaint_with(slot_field(slot, 0), 0), name + ": active: 0");
    expect_says(complaint_with(slot_field(slot, 44), 3999), name + ": stripes: 3999, must be 4000");
    expect_says(complaint_with(slot_field(slot, 44), 0xffffffff), "stripes: 4294967295");
    expect_says(complaint_with(slot_field(slot, 40), 7), "overlaps the header");
    expect_says(complaint_with(slot_field(slot, 40), 4000), "overlaps the payload at 4096");
    expect_says(complaint_with(slot_field(slot, 40), 0xffffffff), "overlaps the payload");
  }
  expect_says(complaint_with(slot_field(1, 40), 511), "key slot 1: key material of sectors 511 to 1015 overlaps that of slot 0");
  expect_says(complaint_with(104, 4039), "key slot 7: key material of sectors 3536 to 4040 overlaps the payload at 4039");
}

TEST(ALuksHeader, MustStayInItsPlaceInAQcow2) {
  EXPECT_EQ(complaint_with(104, 4040, 4040 * 512, Place::in_qcow2), "none");
  EXPECT_EQ(complaint_with(104, 0xffffffff, 4040 * 512, Place::in_qcow2), "none");  // without meaning there
  expect_says(complaint_with(104, 4040, 4040 * 512 - 1, Place::in_qcow2), "leaves the header's 2068479 bytes");
}

TEST(ALuksHeader, EndsInFactsWithinBoundsOrInARefusalWhateverItsBytesAre) {
  const auto good = sample_header().bytes;
  std::mt19937 random(1);
  for (int round = 0; round < 50000; ++round) {
    std::vector<std::byte> bytes(good.begin(), good.begin() + 592 + random() % 64);
    for (int change = 0; change < 3; ++change) bytes[8 + random() % (bytes.size() - 8)] = static_cast<std::byte>(random());
    try {
      const HeaderFacts facts = parse_header(bytes, kRoom, Place::container);
      EXPECT_LE(facts.payload_offset, kRoom);
      for (const SlotFacts& slot : facts.slots)
        EXPECT_LE(slot.material_offset + material_bytes(facts.key_bytes), facts.payload_offset);
    } catch (const FormatError&) {
    }
  }
}

TEST(ALuksHeader, IsDescribedWhateverItsCipher) {
  auto header = sample_header().bytes;
  std::memcpy(header.data() + 8, "serpent", 8);
  EXPECT_EQ(parse_header(header, kRoom, Place::container).cipher, "serpent-xts-plain64");
}

}  // namespace
}  // namespace nasbackup::luks
