// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The file that the members of a rate group share, and what becomes of it when they die.
#include "engine/io/rate_group.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "engine/io/fault.h"
#include "nodes.h"

namespace nasbackup {
namespace {

struct RateGroupTest : testing::Test {
  std::string path() const { return folder.file("rate-g"); }
  std::unique_ptr<RateGroup> join() const { return std::make_unique<RateGroup>(folder.file(""), "g"); }

  std::string complaint() const {
    try {
      join();
    } catch (const Fault& fault) {
      return fault.what();
    }
    return "";
  }

  /// A member in a process of its own, which has said `rate` before this returns.
  pid_t start_member(std::uint64_t rate) const {
    int ready[2];
    EXPECT_EQ(::pipe(ready), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      const auto group = join();
      group->bucket().rate = rate;
      [[maybe_unused]] const auto told = ::write(ready[1], "r", 1);
      for (;;) ::pause();
    }
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]), ::close(ready[1]);
    return pid;
  }

  static void kill_member(pid_t pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }

  void write_junk(const std::string& bytes) const {
    std::ofstream(path(), std::ios::binary) << bytes;
    std::filesystem::permissions(path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  }

  Folder folder;
};

TEST_F(RateGroupTest, IsOneBucketForAllItsMembersAlsoInOtherProcesses) {
  const pid_t other = start_member(1234);
  const auto one = join(), two = join();
  EXPECT_EQ(one->bucket().rate, 1234u);
  one->bucket().paid_at = 99;
  EXPECT_EQ(two->bucket().paid_at, 99);
  kill_member(other);
  EXPECT_EQ(one->bucket().rate, 1234u) << "what a killed member said still holds for the others";
}

TEST_F(RateGroupTest, BeginsAnewWhenItsMembersAreDead) {
  kill_member(start_member(1234));
  ASSERT_TRUE(std::filesystem::exists(path()));
  EXPECT_EQ(join()->bucket().rate, 0u);
}

TEST_F(RateGroupTest, LeavesNoFileBehindWhenTheLastMemberGoes) {
  auto one = join(), two = join();
  one.reset();
  EXPECT_TRUE(std::filesystem::exists(path()));
  two.reset();
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(RateGroupTest, IsForItsOwnerAlone) {
  const auto group = join();
  struct stat info {};
  ASSERT_EQ(::stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
}

TEST_F(RateGroupTest, BeginsAnewOverJunkThatNobodyUses) {
  for (const std::string& junk : {std::string(), std::string("x"), std::string(1 << 20, '\xff')}) {
    write_junk(junk);
    const auto group = join();
    EXPECT_EQ(group->bucket().rate, 0u);
    EXPECT_EQ(group->bucket().paid_at, 0);
  }
}

TEST_F(RateGroupTest, RefusesAFileThatIsInUseAndNotOfItsKind) {
  const auto member = join();
  for (const std::string& junk : {std::string(), std::string("x"), std::string(40, 'x'), std::string(1 << 20, '\xff')}) {
    write_junk(junk);
    EXPECT_NE(complaint().find("not a rate group of this version"), std::string::npos);
  }
  std::filesystem::resize_file(path(), 40);  // the member has it mapped
}

TEST_F(RateGroupTest, RefusesWhatIsNoFileOfItsOwn) {
  std::filesystem::create_symlink("/etc/passwd", path());
  EXPECT_NE(complaint(), "");
  std::filesystem::remove(path());
  std::filesystem::create_directory(path());
  EXPECT_NE(complaint(), "");
  std::filesystem::remove(path());
  write_junk("");
  ::chmod(path().c_str(), 0644);
  EXPECT_NE(complaint().find("only its owner"), std::string::npos);
}

TEST_F(RateGroupTest, ManyMayComeAndGoAtOnce) {
  std::vector<std::jthread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) try {
          join();
        } catch (const Fault&) {
          ++failures;
        }
    });
  threads.clear();
  EXPECT_EQ(failures, 0);
}

TEST(RateGroupName, IsAPlainWord) {
  for (const char* name : {"a", "nas1", "NAS.2_b-c", "0"}) EXPECT_TRUE(is_rate_group_name(name)) << name;
  for (const std::string& name : {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("-a"),
                                  std::string("a b"), std::string("a\n"), std::string("\xc3\xa4"), std::string(65, 'a')})
    EXPECT_FALSE(is_rate_group_name(name)) << name;
}

}  // namespace
}  // namespace nasbackup
