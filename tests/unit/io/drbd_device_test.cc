// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/io/drbd_device.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/io/fault.h"

namespace nasbackup {
namespace {

namespace fs = std::filesystem;

class DrbdDevice : public testing::Test {
 protected:
  DrbdDevice() {
    for (const char* device : {"drbd1000", "drbd1001", "drbd1002"}) std::ofstream(root_ / device) << device;
    link("cs-aaaa", "drbd1000"), link("cs-bbbb", "drbd1001"), link("other", "drbd1002");
  }
  ~DrbdDevice() override { fs::remove_all(root_); }

  void link(const std::string& resource, const std::string& device) {
    fs::create_directories(root_ / "by-res" / resource);
    fs::create_symlink("../../" + device, root_ / "by-res" / resource / "0");
  }
  std::string resource_of(const std::string& device) {
    return fs::path(drbd_resource_path((root_ / device).string(), (root_ / "by-res").string()))
        .lexically_relative(root_)
        .string();
  }

  const fs::path root_ = [] {
    std::string name = (fs::temp_directory_path() / "drbd.XXXXXX").string();
    return fs::path(::mkdtemp(name.data()));
  }();
};

TEST_F(DrbdDevice, IsNamedByTheLinkThatLeadsToIt) {
  EXPECT_EQ(resource_of("drbd1000"), "by-res/cs-aaaa/0");
  EXPECT_EQ(resource_of("drbd1001"), "by-res/cs-bbbb/0");
}

TEST_F(DrbdDevice, ThatNoVolumesLinkLeadsToIsRefusedInUpstreamsWords) {
  for (const char* device : {"drbd1002", "drbd1003"}) {
    try {
      resource_of(device);
      FAIL() << device;
    } catch (const Fault& fault) {
      const std::string wanted = "Failed to resolve LINSTOR volume UUID for " + (root_ / device).string();
      EXPECT_EQ(std::string(fault.what()).substr(0, wanted.size()), wanted);
    }
  }
}

TEST_F(DrbdDevice, IsToldFromOtherPathsByItsNumber) {
  for (const char* path : {"/dev/drbd0", "/dev/drbd1000"}) EXPECT_TRUE(is_drbd_device(path)) << path;
  for (const char* path : {"/dev/drbd", "/dev/drbd/by-res/cs-a/0", "/dev/drbd1x", "/dev/sda1", "/x/dev/drbd1", ""})
    EXPECT_FALSE(is_drbd_device(path)) << path;
}

}  // namespace
}  // namespace nasbackup
