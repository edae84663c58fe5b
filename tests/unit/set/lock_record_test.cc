// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/lock_record.h"

#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

using LockRecordOf = SetFixture;

TEST_F(LockRecordOf, ThisProcessSaysWhoItIs) {
  const auto record = own_lock_record(kRunA, run_directory_);
  EXPECT_EQ(kRunA, record.run_id);
  EXPECT_EQ(static_cast<std::uint64_t>(::getpid()), record.pid);
  EXPECT_GT(record.start_time, 0u);
  EXPECT_EQ(36u, record.boot_id.size());
}

TEST_F(LockRecordOf, AnyProcessReadsBackInTheSameLength) {
  auto record = own_lock_record(kRunA, run_directory_);
  record.beat = UINT64_MAX;
  const auto bytes = write_lock_record(record);
  EXPECT_EQ(kLockRecordSize, bytes.size());
  const auto again = read_lock_record(bytes);
  ASSERT_TRUE(again);
  EXPECT_EQ(record.holder(), again->holder());
  EXPECT_EQ(UINT64_MAX, again->beat);
}

TEST_F(LockRecordOf, AnotherContainerOfTheMachineIsFromElsewhere) {
  const auto here = own_lock_record(kRunA, run_directory_);
  EXPECT_TRUE(own_lock_record(kRunB, run_directory_).is_from_the_place_of(here));
  EXPECT_FALSE(own_lock_record(kRunB, make_run_directory_of("other")).is_from_the_place_of(here));
}

TEST_F(LockRecordOf, GarbageIsNone) {
  const auto good = write_lock_record(own_lock_record(kRunA, run_directory_));
  std::string torn = good;
  torn.replace(40, 200, 200, '\0');
  for (const std::string& bytes : {std::string(), std::string(kLockRecordSize, ' '), good.substr(1), good + ' ', torn,
                                   std::string(kLockRecordSize, '['), "{}" + std::string(kLockRecordSize - 2, ' ')}) {
    EXPECT_FALSE(read_lock_record(bytes));
  }
}

}  // namespace
}  // namespace nasbackup::set
