// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// QEMU's own directory of a domain, found by its number.
#include "engine/vm/job_places.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/vm/run_names.h"

namespace nasbackup::vm {
namespace {

class JobPlacesTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/job_places_test.XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void make(const std::string& name) { std::filesystem::create_directories(root_ + "/" + name); }
  void touch(const std::string& name) { std::ofstream(root_ + "/" + name).flush(); }
  std::string root_;
};

TEST_F(JobPlacesTest, TakesTheDirectoryOfThatNumberAndNoOther) {
  make("domain-1-i-2-10-VM");
  make("domain-12-i-2-10-VM");
  make("snapshot");
  EXPECT_EQ(domain_directory(1, root_), root_ + "/domain-1-i-2-10-VM");
  EXPECT_EQ(domain_directory(12, root_), root_ + "/domain-12-i-2-10-VM");
  EXPECT_EQ(domain_directory(2, root_), "");
  EXPECT_EQ(domain_directory(1, root_ + "/missing"), "");
}

TEST_F(JobPlacesTest, RemovesOnlyWhatCarriesTheRunsOwnId) {
  const std::string run = "0123456789abcdef";
  const std::string other = "fedcba9876543210";
  for (const std::string& name :
       {socket_name(run), scratch_name(run, "vda"), scratch_name(other, "vda"), std::string("monitor.sock")}) {
    touch(name);
  }
  remove_job_places({root_ + "/" + socket_name(run), root_, ""}, run);
  EXPECT_FALSE(std::filesystem::exists(root_ + "/" + socket_name(run)));
  EXPECT_FALSE(std::filesystem::exists(root_ + "/" + scratch_name(run, "vda")));
  EXPECT_TRUE(std::filesystem::exists(root_ + "/" + scratch_name(other, "vda")));
  EXPECT_TRUE(std::filesystem::exists(root_ + "/monitor.sock"));
}

TEST_F(JobPlacesTest, FindsNothingToRemoveASecondTime) {
  const JobPlaces places{root_ + "/private/" + socket_name("0123456789abcdef"), root_ + "/private", root_ + "/private"};
  make("private");
  remove_job_places(places, "0123456789abcdef");
  EXPECT_FALSE(std::filesystem::exists(root_ + "/private"));
  remove_job_places(places, "0123456789abcdef");
}

}  // namespace
}  // namespace nasbackup::vm
