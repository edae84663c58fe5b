// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/io/run_lock.h"

#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "engine/set/vm_claim.h"
#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

using RunLock = SetFixture;

TEST_F(RunLock, IsFreeWhenThereIsNoFile) { EXPECT_FALSE(run_is_alive(kRunA, run_directory_)); }

TEST_F(RunLock, IsFreeWhenNobodyHoldsTheFile) {
  write(run_directory_ + "/run-" + kRunA + ".lock", "");
  EXPECT_FALSE(run_is_alive(kRunA, run_directory_));
}

TEST_F(RunLock, IsHeldWhileAProcessHasItAndFreeAfterwards) {
  LivingRun run(run_directory_, kRunA);
  EXPECT_TRUE(run_is_alive(kRunA, run_directory_));
  run.die();
  EXPECT_FALSE(run_is_alive(kRunA, run_directory_));
}

TEST_F(RunLock, IsHeldByAChildThatInheritedIt) {
  LivingRun run(run_directory_, kRunA);
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  run.die();
  EXPECT_TRUE(run_is_alive(kRunA, run_directory_));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(run_is_alive(kRunA, run_directory_));
}

TEST_F(RunLock, IsNotAskedForByNamesThatLeaveTheDirectory) {
  write(run_directory_ + "/run-x.lock", "");
  EXPECT_FALSE(run_is_alive("../run-x", run_directory_));
  EXPECT_FALSE(is_run_id("AAAAAAAAAAAAAAAA"));
  EXPECT_FALSE(is_run_id("aaaaaaaaaaaaaaa"));
}

TEST_F(RunLock, CountsAsHeldWhenItCannotBeAsked) {
  fs::create_symlink("/dev/null", run_directory_ + "/run-" + kRunA + ".lock");
  EXPECT_TRUE(run_is_alive(kRunA, run_directory_));
}

TEST_F(RunLock, DirectoryIsMadeForItsOwnerAlone) {
  const auto path = base_ + "/fresh";
  make_run_directory(path);
  EXPECT_EQ(fs::perms::owner_all, fs::status(path).permissions());
  EXPECT_NO_THROW(make_run_directory(path));
}

TEST_F(RunLock, DirectoryThatOthersCanWriteIsRefused) {
  ::chmod(run_directory_.c_str(), 0777);
  EXPECT_FAULT(FaultKind::failed, make_run_directory(run_directory_));
  fs::create_directory_symlink(base_, base_ + "/link");
  EXPECT_FAULT(FaultKind::failed, make_run_directory(base_ + "/link"));
}

TEST_F(RunLock, ClaimOfALivingRunKeepsTheVm) {
  const LivingRun run(run_directory_, kRunA);
  const VmClaim claim("vm1", kRunA, run_directory_);
  const auto [seen, fault] = outcome_of([&] { VmClaim("vm1", kRunB, run_directory_); });
  EXPECT_EQ(Seen::fault, seen);
  EXPECT_EQ(FaultKind::locked, fault.kind());
  EXPECT_NE(std::string::npos, std::string(fault.what()).find("pid " + std::to_string(::getpid()))) << fault.what();
  EXPECT_NO_THROW(VmClaim("vm2", kRunB, run_directory_));
}

TEST_F(RunLock, ClaimEndsWithItsRun) {
  LivingRun run(run_directory_, kRunA);
  const VmClaim claim("vm1", kRunA, run_directory_);
  run.die();
  EXPECT_NO_THROW(VmClaim("vm1", kRunB, run_directory_));
}

TEST_F(RunLock, ClaimOfADeadRunDoesNotRemoveItsSuccessors) {
  LivingRun first(run_directory_, kRunA);
  auto old = std::make_unique<VmClaim>("vm1", kRunA, run_directory_);
  first.die();
  const LivingRun second(run_directory_, kRunB);
  const VmClaim claim("vm1", kRunB, run_directory_);
  old.reset();
  EXPECT_FAULT(FaultKind::locked, VmClaim("vm1", "cccccccccccccccc", run_directory_));
}

TEST_F(RunLock, ClaimOfANameThatLeavesTheDirectoryIsRefused) {
  EXPECT_FAULT(FaultKind::usage, VmClaim("/../../x", kRunA, run_directory_));
}

TEST_F(RunLock, ClaimLeavesNothingBehind) {
  { const VmClaim claim("vm1", kRunA, run_directory_); }
  EXPECT_TRUE(names_in(run_directory_).empty());
}

TEST_F(RunLock, ClaimHasOneHolderAtATimeHoweverManyTakeAndGiveItUp) {
  std::atomic<int> holders{0};
  std::atomic<int> taken{0};
  std::atomic<bool> shared{false};
  std::vector<std::jthread> runs;
  for (char run = '1'; run <= '4'; ++run) {
    runs.emplace_back([&, run] {
      const std::string id(16, run);
      const LivingRun alive(run_directory_, id);
      for (int round = 0; round < 1000; ++round) {
        try {
          const VmClaim claim("vm1", id, run_directory_);
          if (++holders != 1) shared = true;
          ++taken;
          --holders;
        } catch (const Fault& fault) {
          EXPECT_EQ(FaultKind::locked, fault.kind()) << fault.what();
        }
      }
    });
  }
  runs.clear();
  EXPECT_FALSE(shared);
  EXPECT_GT(taken, 0);
}

TEST_F(RunLock, ClaimThatIsGarbageIsNobodys) {
  write(run_directory_ + "/vm-vm1.claim", std::string(100000, 'x'));
  EXPECT_NO_THROW(VmClaim("vm1", kRunA, run_directory_));
}

}  // namespace
}  // namespace nasbackup::set
