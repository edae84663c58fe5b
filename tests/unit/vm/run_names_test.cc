// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Whose socket and scratch files are these, and is their run alive?
#include "engine/vm/run_names.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace nasbackup::vm {
namespace {

constexpr const char* kRun = "0123456789abcdef";

TEST(RunNames, FindTheRunIdInTheirOwnNames) {
  EXPECT_EQ(run_id_in("/var/lib/" + socket_name(kRun)), kRun);
  EXPECT_EQ(run_id_in(scratch_name(kRun, "vda")), kRun);
}

TEST(RunNames, FindNothingInForeignNames) {
  for (const char* name : {"nbd.sock", "vda.scratch", "nasbackup-.sock", "nasbackup-0123456789abcde.sock",
                           "nasbackup-0123456789abcdef0.sock", "nasbackup-0123456789ABCDEF.sock", "nasbackup-0123456789abcdef",
                           "nasbackup-0123456789abcdef.scratch", "nasbackup-0123456789abcdef-.scratch",
                           "xnasbackup-0123456789abcdef.sock", "nasbackup-0123456789abcdef.sock/inside", ""}) {
    EXPECT_EQ(run_id_in(name), std::nullopt) << name;
  }
}

class RunLock : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/run_names_test.XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string lock_path() const { return directory_ + "/run-" + kRun + ".lock"; }
  std::string directory_;
};

TEST_F(RunLock, SaysDeadWhenTheFileIsMissing) { EXPECT_FALSE(run_is_alive(kRun, directory_)); }

TEST_F(RunLock, SaysDeadWhenNobodyHoldsIt) {
  std::ofstream(lock_path()).flush();
  EXPECT_FALSE(run_is_alive(kRun, directory_));
}

TEST_F(RunLock, SaysAliveWhileItIsHeldAndDeadAfterwards) {
  const int fd = open(lock_path().c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  EXPECT_TRUE(run_is_alive(kRun, directory_));
  close(fd);
  EXPECT_FALSE(run_is_alive(kRun, directory_));
}

}  // namespace
}  // namespace nasbackup::vm
