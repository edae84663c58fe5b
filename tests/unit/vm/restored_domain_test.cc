// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where a restored disk is now, in the domain's XML.
#include "engine/vm/restored_domain.h"

#include <gtest/gtest.h>

namespace nasbackup::vm {
namespace {

std::string rewritten(const std::string& disk, const std::string& location) {
  RestoredDomain changes;
  changes.disks["vda"] = {RestoredPlace::Kind::rbd, location, "raw"};
  return rewrite_domain("<domain><name>web</name><devices><disk type='network' device='disk'>" + disk +
                            "<target dev='vda'/></disk></devices></domain>",
                        changes);
}

TEST(RestoredDomain, FindsACephImageByItsMonitorsAndTheSecretThatTheDiskHad) {
  const std::string xml = rewritten(
      "<source protocol='rbd' name='old/one'><auth username='old'><secret type='ceph' uuid='1234'/></auth></source>",
      "rbd:pool/space/image:id=backup:stored_key=1:mon_host=10.0.0.1\\:6789\\;[fd00\\:\\:2]\\;[v2\\:10.0.0.3\\:3300]:conf=/etc/"
      "ceph/a.conf");
  for (const char* part :
       {"<disk type=\"network\"", "<driver name=\"qemu\" type=\"raw\"", "<source protocol=\"rbd\" name=\"pool/space/image\"",
        "<host name=\"10.0.0.1\" port=\"6789\"", "<host name=\"fd00::2\" />", "<config file=\"/etc/ceph/a.conf\"",
        "<auth username=\"backup\"", "<secret type=\"ceph\" uuid=\"1234\""})
    EXPECT_NE(xml.find(part), std::string::npos) << part << "\n" << xml;
  for (const char* gone : {"old", "stored_key", "v2:"}) EXPECT_EQ(xml.find(gone), std::string::npos) << gone << "\n" << xml;
}

TEST(RestoredDomain, HasNoSecretForACephImageWhereTheDiskHadNone) {
  const std::string xml = rewritten("<source file='/a'/>", "rbd:pool/image:id=backup:key=SECRET");
  EXPECT_NE(xml.find("name=\"pool/image\""), std::string::npos) << xml;
  EXPECT_EQ(xml.find("<auth"), std::string::npos) << xml;
  EXPECT_EQ(xml.find("SECRET"), std::string::npos) << xml;
}

}  // namespace
}  // namespace nasbackup::vm
