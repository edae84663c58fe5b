// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// virsh's tables; the expected texts are what virsh 9.0 printed for these domains.
#include "engine/vm/domain_texts.h"

#include <gtest/gtest.h>

namespace nasbackup::vm {
namespace {

TEST(DomainTexts, ListDisksAsVirshDoes) {
  EXPECT_EQ(
      disk_table("<domain><devices>"
                 "<disk type='file' device='disk'><source file='/tmp/vmlab/disks/a.qcow2' index='6'/><target dev='vda'/></disk>"
                 "<disk type='file' device='disk'><source file='/tmp/vmlab/disks/b &amp; &apos;x&apos; &quot;y&quot;.img'/>"
                 "<target dev='vdb'/></disk>"
                 "<disk type='file' device='cdrom'><driver name='qemu'/><target dev='hdb' bus='ide'/></disk>"
                 "</devices></domain>"),
      " Target   Source\n"
      "--------------------------------------------\n"
      " vda      /tmp/vmlab/disks/a.qcow2\n"
      " vdb      /tmp/vmlab/disks/b & 'x' \"y\".img\n"
      " hdb      -\n"
      "\n");
}

TEST(DomainTexts, ListInterfacesAsVirshDoes) {
  EXPECT_EQ(interface_table("<domain><devices><interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/>"
                            "<alias name='net0'/></interface></devices></domain>"),
            " Interface   Type   Source   Model    MAC\n"
            "---------------------------------------------------------\n"
            " -           user   -        virtio   52:54:00:11:22:33\n"
            "\n");
}

TEST(DomainTexts, ShowTheVolumeOfAPoolAndTheImageOfANetworkDisk) {
  const std::string table = disk_table(
      "<domain><devices><disk type='volume'><source pool='p' volume='v1'/><target dev='vda'/></disk>"
      "<disk type='network'><source protocol='rbd' name='pool/image'/><target dev='vdb'/></disk></devices></domain>");
  EXPECT_NE(table.find(" vda      v1\n"), std::string::npos) << table;
  EXPECT_NE(table.find(" vdb      pool/image\n"), std::string::npos) << table;
}

TEST(DomainTexts, KeepATableOfNothingWellFormed) {
  EXPECT_EQ(disk_table("<domain><devices/></domain>"), " Target   Source\n------------------\n\n");
}

TEST(DomainTexts, NeverLetAControlCharacterBreakTheTable) {
  EXPECT_EQ(virsh_table({{"A"}, {"x\ny"}}), " A\n---------\n x\\x0ay\n\n");
}

}  // namespace
}  // namespace nasbackup::vm
