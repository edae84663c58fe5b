// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/image_name.h"

#include <gtest/gtest.h>

namespace nasbackup::set {
namespace {

TEST(ImageNames, CallTheFirstDiskRootAndTheOthersDatadisk) {
  ImageNames names;
  EXPECT_EQ("root.a.qcow2", names.next("a", true));
  EXPECT_EQ("datadisk.b.qcow2", names.next("b", false));
  EXPECT_EQ("datadisk.c.qcow2.qcow2", names.next("c.qcow2", false));
}

TEST(ImageNames, NumberEqualNames) {
  ImageNames names;
  names.next("root", true);
  EXPECT_EQ("datadisk.a.qcow2", names.next("a", false));
  EXPECT_EQ("datadisk.a-2.qcow2", names.next("a", false));
  EXPECT_EQ("datadisk.a-3.qcow2", names.next("a", false));
}

TEST(ImageNames, NumberAroundANameThatLooksNumbered) {
  ImageNames names;
  names.next("root", true);
  EXPECT_EQ("datadisk.a-2.qcow2", names.next("a-2", false));
  EXPECT_EQ("datadisk.a.qcow2", names.next("a", false));
  EXPECT_EQ("datadisk.a-3.qcow2", names.next("a", false));
}

TEST(ImageNames, TakeNamesThatDifferInCaseForEqual) {
  ImageNames names;
  names.next("root", true);
  names.next("Disk", false);
  EXPECT_EQ("datadisk.DISK-2.qcow2", names.next("DISK", false));
}

TEST(ImageNames, ReplaceWhatAFileNameCannotHave) {
  ImageNames names;
  EXPECT_EQ("root.a_b_c_d_.qcow2", names.next("a/b:c\\d\n", true));
  EXPECT_EQ("datadisk.disk.qcow2", names.next("", false));
  EXPECT_EQ("datadisk.a, b'c\".qcow2", names.next("a, b'c\"", false));
}

TEST(ImageNames, FitIntoAFileSystemHoweverLongTheIdIs) {
  ImageNames names;
  names.next("root", true);
  for (int i = 0; i < 3; ++i) EXPECT_LE(names.next(std::string(5000, 'x'), false).size(), 255u);
}

TEST(DiskId, IsTheBaseNameOfAPath) {
  EXPECT_EQ("8f2c", disk_id("/mnt/primary/8f2c"));
  EXPECT_EQ("8f2c.qcow2", disk_id("8f2c.qcow2"));
  EXPECT_EQ("vda", disk_id("/dev/vg/vda/"));
  EXPECT_EQ("", disk_id("/"));
  EXPECT_EQ("", disk_id(".."));
}

TEST(DiskId, IsFoundInRbdStringsDrbdPathsAndNbdUris) {
  EXPECT_EQ("8f2c", disk_id("rbd:pool/8f2c:mon_host=10.0.0.1:key=x"));
  EXPECT_EQ("8f2c", disk_id("rbd:pool/namespace/8f2c"));
  EXPECT_EQ("", disk_id("rbd:8f2c:conf=/etc/ceph"));
  EXPECT_EQ("8f2c-11", disk_id("/dev/drbd/by-res/cs-8f2c-11/0"));
  EXPECT_EQ("disk1", disk_id("nbd://host:10809/disk1"));
  EXPECT_EQ("vda", disk_id("nbd+unix:///vda?socket=/run/x.sock"));
  EXPECT_EQ("", disk_id("nbd://host"));
}

}  // namespace
}  // namespace nasbackup::set
