// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Keys of Ceph clients leave the texts that hold them.
#include "engine/storage_keys.h"

#include <gtest/gtest.h>

#include "engine/io/location.h"

namespace nasbackup {
namespace {

std::string text_of(const StorageKeys& keys, const std::string& name) {
  const auto bytes = keys.at(name)->secret()->bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(StorageKeys, AreTakenOutOfATextAndNamedInIt) {
  std::string text = "root=rbd:p/a:key=ONE\\=\\=:id=x,rbd:p/b:key=TWO";
  StorageKeys keys;
  EXPECT_EQ(take_storage_keys(text.data(), keys), "root=rbd:p/a:stored_key=1:id=x,rbd:p/b:stored_key=2");
  EXPECT_EQ(text, "root=rbd:p/a:key=" + std::string(7, 'x') + ":id=x,rbd:p/b:key=" + std::string(3, 'x'));
  EXPECT_EQ(text_of(keys, "1"), "ONE==");
  EXPECT_EQ(text_of(keys, "2"), "TWO");
}

TEST(StorageKeys, AreNotSoughtWhereNoLocationIs) {
  std::string text = "nbd://host/x:key=ONE";
  StorageKeys keys;
  EXPECT_EQ(take_storage_keys(text.data(), keys), text);
  EXPECT_TRUE(keys.empty());
}

TEST(StorageKeys, OfADomainsDiskAreBase64) {
  const std::string bytes = "key of a client";
  for (const auto& [length, expected] : {std::pair<std::size_t, std::string>(15, "a2V5IG9mIGEgY2xpZW50"),
                                         {14, "a2V5IG9mIGEgY2xpZW4="},
                                         {13, "a2V5IG9mIGEgY2xpZQ=="}}) {
    StorageKeys keys;
    const vm::RbdDisk disk{"pool/space/image", "evening", {"10.0.0.1:6789", "[fd00::2]:6789"}, "libvirt", {}, "/etc/x.conf"};
    const RbdLocation location = read_rbd_location(rbd_location_of(disk, std::as_bytes(std::span(bytes)).first(length), keys));
    EXPECT_EQ(location.pool + "|" + location.name_space + "|" + location.image + "@" + location.snapshot,
              "pool|space|image@evening");
    EXPECT_EQ(location.user + "|" + location.conf, "libvirt|/etc/x.conf");
    EXPECT_EQ(location.options.front().second, "10.0.0.1:6789;[fd00::2]:6789");
    EXPECT_EQ(text_of(keys, location.stored_key), expected);
  }
}

TEST(StorageKeys, OfADomainsDiskThatNamesNoUserAreLeftToCeph) {
  StorageKeys keys;
  const std::string location = rbd_location_of({"pool/image", "", {"mon"}, "", {}, ""}, {}, keys);
  EXPECT_EQ(location, "rbd:pool/image:mon_host=mon");
  EXPECT_TRUE(keys.empty());
}

TEST(StorageKeys, NeedAnImagesName) {
  StorageKeys keys;
  for (const char* name : {"", "image", "/image", "pool/"})
    EXPECT_ANY_THROW(rbd_location_of({name, "", {}, "", {}, ""}, {}, keys)) << name;
}

}  // namespace
}  // namespace nasbackup
