// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which libvirt URIs lead to another host.
#include "engine/vm/connection.h"

#include <gtest/gtest.h>

#include "engine/io/fault.h"

namespace nasbackup::vm {
namespace {

TEST(LibvirtUri, IsLocalWithoutHostAndTransport) {
  for (const char* uri :
       {"qemu:///system", "qemu:///session", "qemu+unix:///system?socket=/run/x", "test:///default", "", "alias"}) {
    EXPECT_TRUE(is_local_uri(uri)) << uri;
  }
}

TEST(LibvirtUri, IsRemoteWithAHostOrATransport) {
  for (const char* uri : {"qemu+ssh://root@host/system", "qemu://host/system", "qemu+tls:///system", "qemu+tcp://h/system",
                          "qemu+libssh2://h/system", "qemu+ext:///system", "qemu+ssh:///system", "qemu://"}) {
    EXPECT_FALSE(is_local_uri(uri)) << uri;
  }
}

TEST(LibvirtConnection, RefusesARemoteUriBeforeItConnects) {
  try {
    const Connection connection("qemu+ssh://192.0.2.1/system");
    FAIL() << "connected";
  } catch (const Fault& fault) {
    EXPECT_EQ(fault.kind(), FaultKind::source);
    EXPECT_NE(std::string(fault.what()).find("the backup socket is local"), std::string::npos);
  }
}

}  // namespace
}  // namespace nasbackup::vm
