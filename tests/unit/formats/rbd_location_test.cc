// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Locations of Ceph images, as QEMU reads them; and their keys, which are never written.
#include "formats/rbd_location.h"

#include <gtest/gtest.h>

#include <random>

#include "formats/format_error.h"

namespace nasbackup {
namespace {

std::string text_of(const crypto::Secret& secret) {
  return {reinterpret_cast<const char*>(secret.bytes().data()), secret.size()};
}

TEST(RbdLocation, IsReadAsCloudStackWritesIt) {
  const RbdLocation location = parse_rbd_location(
      "rbd:cloudstack/8f2c-11:mon_host=10.0.0.1\\:6789\\;[fd00\\:\\:2]\\:6789:auth_supported=cephx:id=cloud:key=AQAp7Qdr2OhK+/"
      "xz==:"
      "rbd_default_format=2:client_mount_timeout=30");
  EXPECT_EQ(location.pool, "cloudstack");
  EXPECT_EQ(location.name_space, "");
  EXPECT_EQ(location.image, "8f2c-11");
  EXPECT_EQ(location.snapshot, "");
  EXPECT_EQ(location.user, "cloud");
  EXPECT_EQ(text_of(location.key), "AQAp7Qdr2OhK+/xz==");
  const std::vector<std::pair<std::string, std::string>> options{{"mon_host", "10.0.0.1:6789;[fd00::2]:6789"},
                                                                 {"auth_supported", "cephx"},
                                                                 {"rbd_default_format", "2"},
                                                                 {"client_mount_timeout", "30"}};
  EXPECT_EQ(location.options, options);
}

TEST(RbdLocation, HasNamespaceSnapshotAndEscapedNames) {
  const RbdLocation location = parse_rbd_location("rbd:p\\/q/n\\@s/a\\:b\\\\c\\/d@s\\@1:conf=/x y\\:z.conf:a\\=b=c=d");
  EXPECT_EQ(location.pool, "p/q");
  EXPECT_EQ(location.name_space, "n@s");
  EXPECT_EQ(location.image, "a:b\\c/d");
  EXPECT_EQ(location.snapshot, "s@1");
  EXPECT_EQ(location.conf, "/x y:z.conf");
  ASSERT_EQ(location.options.size(), 1u);
  EXPECT_EQ(location.options[0], std::make_pair(std::string("a=b"), std::string("c=d")));
}

TEST(RbdLocation, IsWrittenAsItIsReadButForTheKey) {
  const std::string text = "rbd:p\\/q/n/a\\:b\\\\c@s\\@1:id=me:conf=\\/x.conf:stored_key=1:mon_host=h\\:1\\;k\\:2";
  EXPECT_EQ(to_string(parse_rbd_location(text + ":key=SECRET")), text);
}

TEST(RbdLocation, ThatCannotBeReadIsRefusedWithoutItsKey) {
  const std::vector<std::string> bad{"rbd:",
                                     "rbd:pool",
                                     "rbd:/image",
                                     "rbd:pool/",
                                     "rbd:p/i@",
                                     "rbd:p//i",
                                     "rbd:p/i:x",
                                     "rbd:p/i:=x",
                                     "rbd:p/i@:a=b",
                                     "nbd://host/x",
                                     "rbd:p\\/i",
                                     std::string("rbd:p/i\0x", 9),
                                     "rbd:p/i:a\\=b",
                                     "rbd:p/" + std::string(5000, 'i'),
                                     "rbd:p/i:a=" + std::string(70'000, 'b')};
  for (const std::string& text : bad) {
    try {
      parse_rbd_location(text + (text.find(':', 4) == text.npos ? ":key=SECRET" : ":b"));
      FAIL() << text.substr(0, 100);
    } catch (const FormatError& error) {
      EXPECT_EQ(std::string(error.what()).find("SECRET"), std::string::npos) << error.what();
      EXPECT_LT(std::string(error.what()).size(), 5000u);
    }
  }
}

TEST(RbdLocation, HasABoundOfOptions) {
  std::string text = "rbd:p/i";
  for (int i = 0; i < 300; ++i) text += ":a=b";
  EXPECT_THROW(parse_rbd_location(text), FormatError);
}

TEST(RbdLocation, ForPeopleEndsBeforeTheOptions) {
  EXPECT_EQ(rbd_location_for_people("rbd:pool/a\\:b@s:id=x:key=SECRET"), "rbd:pool/a:b@s");
  EXPECT_EQ(rbd_location_for_people("rbd:key=SECRET"), "rbd:key=SECRET");  // a pool of this name
  EXPECT_EQ(rbd_location_for_people("rbd:"), "rbd:");
  EXPECT_EQ(rbd_location_for_people("r"), "rbd:");
}

TEST(RbdLocation, ShowsWhereItsKeysStand) {
  const std::string text = "root=rbd:p/a:key=ONE:id=x,rbd:p/b:id=y:key=TWO\\=,rbd:p/c\\:key=none:monkey=no:key=";
  std::vector<std::string> keys;
  for (const auto& [offset, length] : find_rbd_keys(text)) keys.push_back(text.substr(offset, length));
  EXPECT_EQ(keys, (std::vector<std::string>{"ONE", "TWO\\="}));
  EXPECT_TRUE(find_rbd_keys("nbd://host/x:key=ONE").empty());
  EXPECT_TRUE(find_rbd_keys("").empty());
}

TEST(RbdLocation, OfAnyBytesIsReadOrRefused) {
  std::mt19937 random(1);
  const std::string alphabet = "rbd:/@=\\:;key,a\0";
  for (int round = 0; round < 100'000; ++round) {
    std::string text = "rbd:";
    for (unsigned i = random() % 40; i > 0; --i) text += alphabet[random() % alphabet.size()];
    for (const auto& [offset, length] : find_rbd_keys(text)) ASSERT_LE(offset + length, text.size());
    rbd_location_for_people(text);
    try {
      const RbdLocation location = parse_rbd_location(text);
      const RbdLocation again = parse_rbd_location(to_string(location));
      ASSERT_EQ(to_string(again), to_string(location)) << text;
      ASSERT_EQ(std::make_pair(again.pool, again.image), std::make_pair(location.pool, location.image)) << text;
    } catch (const FormatError&) {
    }
  }
}

}  // namespace
}  // namespace nasbackup
