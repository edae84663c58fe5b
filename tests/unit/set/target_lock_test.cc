// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Hosts are played by run directories: a run directory of its own makes a run one from elsewhere.
#include "engine/set/target_lock.h"

#include <atomic>
#include <barrier>
#include <thread>

#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

class TargetLockOf : public SetFixture {
 protected:
  TargetLockOf() : vm_(Directory::open(target_, nullptr)) {}

  LockOptions taker(const std::string& run_id, const std::string& run_directory) const {
    LockOptions options;
    options.run_id = run_id;
    options.run_directory = run_directory;
    options.watch = std::chrono::milliseconds(20);
    return options;
  }
  LockOptions here(const std::string& run_id) const { return taker(run_id, run_directory_); }

  /// The lock of a run of another host that made its last refresh `ago`.
  void leave_foreign_lock(const std::string& run_id, std::chrono::seconds ago) const {
    const auto lock = target_ + "/.nasbackup.lock";
    fs::create_directory(lock);
    auto record = own_lock_record(run_id, run_directory_);
    record.host = "elsewhere";
    record.boot_id = "another boot";
    write(lock + '/' + run_id, write_lock_record(record));
    fs::last_write_time(lock + '/' + run_id, fs::file_time_type::clock::now() - ago);
  }

  Directory vm_;
};

TEST_F(TargetLockOf, OneRunKeepsASecondOut) {
  const LivingRun alive(run_directory_, kRunA);
  const TargetLock lock(vm_, here(kRunA));
  const auto [seen, fault] = outcome_of([&] { TargetLock(vm_, here(kRunB)); });
  EXPECT_EQ(Seen::fault, seen);
  EXPECT_EQ(FaultKind::locked, fault.kind());
  EXPECT_NE(std::string::npos, std::string(fault.what()).find(kRunA)) << fault.what();
  EXPECT_EQ(std::vector<std::string>{".nasbackup.lock"}, names_in(target_));
}

TEST_F(TargetLockOf, ARunLeavesNothingOnceGivenUp) {
  { const TargetLock lock(vm_, here(kRunA)); }
  EXPECT_TRUE(names_in(target_).empty());
  EXPECT_NO_THROW(TargetLock(vm_, here(kRunB)));
}

TEST_F(TargetLockOf, ADeadRunOfThisHostIsTakenOverAtOnce) {
  LivingRun first(run_directory_, kRunA);
  TargetLock old(vm_, here(kRunA));
  first.die();
  TargetLock lock(vm_, here(kRunB));
  EXPECT_FAULT(FaultKind::locked, old.refresh());
  EXPECT_NO_THROW(lock.refresh());
}

TEST_F(TargetLockOf, ARunThatLostItDoesNotTakeItFromTheNext) {
  LivingRun first(run_directory_, kRunA);
  auto old = std::make_unique<TargetLock>(vm_, here(kRunA));
  first.die();
  TargetLock lock(vm_, here(kRunB));
  old.reset();
  EXPECT_NO_THROW(lock.refresh());
}

TEST_F(TargetLockOf, AFreshForeignRunIsRespected) {
  leave_foreign_lock(kRunA, std::chrono::seconds(300));
  const auto [seen, fault] = outcome_of([&] { TargetLock(vm_, here(kRunB)); });
  EXPECT_EQ(Seen::fault, seen);
  EXPECT_EQ(FaultKind::locked, fault.kind());
  EXPECT_NE(std::string::npos, std::string(fault.what()).find("elsewhere")) << fault.what();
}

TEST_F(TargetLockOf, AForeignRunIsNotJudgedByTheRunLocksOfThisHost) {
  const auto other = make_run_directory_of("other");  // same machine and boot, other container; its run lock is not here
  const TargetLock lock(vm_, taker(kRunA, other));
  EXPECT_FAULT(FaultKind::locked, TargetLock(vm_, here(kRunB)));
}

TEST_F(TargetLockOf, AForeignRunThatWasSilentForTenMinutesIsTakenOver) {
  leave_foreign_lock(kRunA, std::chrono::seconds(601));
  std::vector<std::string> notes;
  auto options = here(kRunB);
  options.note = [&](const std::string& line) { notes.push_back(line); };
  TargetLock lock(vm_, options);
  EXPECT_NO_THROW(lock.refresh());
  EXPECT_EQ(2u, notes.size());
  EXPECT_EQ(std::vector<std::string>{kRunB}, names_in(target_ + "/.nasbackup.lock"));
}

TEST_F(TargetLockOf, AForeignRunThatRefreshesBeforeTheWatchingBeginsIsAlive) {
  leave_foreign_lock(kRunA, std::chrono::hours(5));
  auto options = here(kRunB);
  options.note = [&](const std::string&) { write(target_ + "/.nasbackup.lock/" + kRunA, "something else"); };
  EXPECT_FAULT(FaultKind::locked, TargetLock(vm_, options));
}

TEST_F(TargetLockOf, AForeignRunWithAWrongClockIsSeenToBeAlive) {
  leave_foreign_lock(kRunA, std::chrono::hours(5));
  auto options = here(kRunB);
  options.watch = std::chrono::milliseconds(1000);
  std::jthread holder;
  options.note = [&](const std::string&) {  // comes before the watching
    holder = std::jthread([path = target_ + "/.nasbackup.lock/" + kRunA](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        std::error_code gone;  // a lock that was taken over shows in the answer, not here
        fs::last_write_time(path, fs::last_write_time(path, gone) + std::chrono::milliseconds(1), gone);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
  };
  EXPECT_FAULT(FaultKind::locked, TargetLock(vm_, options));
}

TEST_F(TargetLockOf, AnUnreadableRecordIsJudgedByItsAge) {
  fs::create_directory(target_ + "/.nasbackup.lock");
  const auto path = target_ + "/.nasbackup.lock/" + kRunA;
  write(path, "rubbish");
  EXPECT_FAULT(FaultKind::locked, TargetLock(vm_, here(kRunB)));
  fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::minutes(11));
  EXPECT_NO_THROW(TargetLock(vm_, here(kRunB)));
}

TEST_F(TargetLockOf, ARunKilledWhileGivingItUpIsFree) {
  fs::create_directory(target_ + "/.nasbackup.lock");
  EXPECT_NO_THROW(TargetLock(vm_, here(kRunA)));
}

TEST_F(TargetLockOf, WatchingEndsWhenAStopIsAskedFor) {
  leave_foreign_lock(kRunA, std::chrono::hours(1));
  std::stop_source source;
  auto options = here(kRunB);
  options.watch = std::chrono::hours(1);
  options.stop = source.get_token();
  options.note = [&](const std::string&) { source.request_stop(); };
  EXPECT_FAULT(FaultKind::interrupted, TargetLock(vm_, options));
  EXPECT_EQ(std::vector<std::string>{".nasbackup.lock"}, names_in(target_));
}

TEST_F(TargetLockOf, ALinkInItsPlaceIsNotFollowed) {
  const auto elsewhere = make_run_directory_of("elsewhere");
  fs::create_directory_symlink(elsewhere, target_ + "/.nasbackup.lock");
  EXPECT_FAULT(FaultKind::failed, TargetLock(vm_, here(kRunA)));
  EXPECT_TRUE(names_in(elsewhere).empty());
}

// Eight hosts find the same dead holder at the same moment, again and again.
TEST_F(TargetLockOf, ADeadRunIsTakenOverByExactlyOneOfManyContenders) {
  constexpr int kContenders = 8;
  std::vector<std::string> hosts;
  for (int i = 0; i < kContenders; ++i) hosts.push_back(make_run_directory_of("host" + std::to_string(i)));
  for (int round = 0; round < 40; ++round) {
    leave_foreign_lock("0000000000000000", std::chrono::hours(1));
    std::atomic<int> winners{0};
    std::atomic<int> locked{0};
    std::barrier start(kContenders);
    std::barrier end(kContenders);
    std::vector<std::thread> threads;
    for (int i = 0; i < kContenders; ++i) {
      threads.emplace_back([&, i] {
        std::unique_ptr<TargetLock> lock;
        start.arrive_and_wait();
        try {
          lock = std::make_unique<TargetLock>(
              vm_, taker(std::string(16, static_cast<char>('1' + i)), hosts[static_cast<std::size_t>(i)]));
          ++winners;
        } catch (const Fault& fault) {
          if (fault.kind() == FaultKind::locked) ++locked;
        }
        end.arrive_and_wait();  // the winner holds it until everybody has had an answer
        if (lock) {
          EXPECT_NO_THROW(lock->refresh());
        }
      });
    }
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(1, winners) << "round " << round;
    ASSERT_EQ(kContenders - 1, locked) << "round " << round;
    ASSERT_TRUE(names_in(target_).empty()) << names_in(target_).front();
  }
}

}  // namespace
}  // namespace nasbackup::set
