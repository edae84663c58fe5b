// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The checkpoints that a VM may have because of a target, and which of them are needed.
#include "engine/set/checkpoint_ledger.h"

#include "engine/set/needed_checkpoints.h"
#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

class Ledger : public SetFixture {
 protected:
  void SetUp() override {
    SetFixture::SetUp();
    fs::create_directories(target_ + "/vm1");
    root_.emplace(Directory::open(target_, nullptr));
    vm_.emplace(root_->open_child("vm1"));
  }
  std::string entry(const std::string& run) const { return target_ + "/vm1/.checkpoint-" + run; }

  std::optional<Directory> root_, vm_;
};

TEST_F(Ledger, GivesTheTargetOneIdForGood) {
  EXPECT_FALSE(CheckpointLedger::exists(*root_));
  const std::string first = CheckpointLedger(*root_, *vm_).checkpoint_of(kRunA);
  EXPECT_TRUE(CheckpointLedger::exists(*root_));
  EXPECT_EQ(first, CheckpointLedger(*root_, *vm_).checkpoint_of(kRunA));
  EXPECT_EQ(first.size(), std::string("nasbackup-").size() + 16 + 1 + 16);
}

TEST_F(Ledger, HasWhatWasAddedUntilItIsRemoved) {
  const CheckpointLedger ledger(*root_, *vm_);
  EXPECT_FALSE(ledger.has(ledger.checkpoint_of(kRunA)));
  ledger.add(kRunA);
  EXPECT_TRUE(ledger.has(ledger.checkpoint_of(kRunA)));
  EXPECT_EQ(std::vector<std::string>{kRunA}, ledger.runs());
  ledger.remove(kRunA);
  EXPECT_FALSE(ledger.has(ledger.checkpoint_of(kRunA)));
  EXPECT_TRUE(ledger.runs().empty());
}

TEST_F(Ledger, TakesNoCheckpointOfOthersForItsOwn) {
  const CheckpointLedger ledger(*root_, *vm_);
  const std::string own = ledger.checkpoint_of(kRunA);
  EXPECT_EQ(kRunA, ledger.run_of(own));
  for (const std::string& name : {std::string("backup-1"), std::string(), own.substr(0, own.size() - 1), own + "0", own + "/../x",
                                  "nasbackup-0000000000000000-" + std::string(kRunA)}) {
    EXPECT_FALSE(ledger.is_ours(name)) << name;
    EXPECT_FALSE(ledger.has(name)) << name;
  }
}

TEST_F(Ledger, IgnoresFilesThatAreNoEntries) {
  const CheckpointLedger ledger(*root_, *vm_);
  for (const char* name : {"x", "AAAAAAAAAAAAAAAA", "aaaaaaaaaaaaaaaaa"}) write(entry(name), "");
  EXPECT_TRUE(ledger.runs().empty());
}

TEST_F(Ledger, OfATargetWithABrokenIdIsRefused) {
  fs::create_directories(target_ + "/.nasbackup");
  write(target_ + "/.nasbackup/id", "not sixteen digits");
  EXPECT_FAULT(FaultKind::damaged, CheckpointLedger(*root_, *vm_));
}

class Needed : public Ledger {
 protected:
  void SetUp() override {
    Ledger::SetUp();
    ledger_.emplace(*root_, *vm_);
  }

  /// A set made by the run `digit`…, whose checkpoint is there.
  void add_set(char digit, const char* kind) {
    const std::string run(16, digit);
    ledger_->add(run);
    CatalogueSet set;
    set.manifest.emplace();
    set.manifest->kind = kind;
    set.manifest->checkpoint = ledger_->checkpoint_of(run);
    sets_.push_back(set);
  }

  /// The digits of the runs.
  std::string needed() const {
    std::string digits;
    for (const std::string& run : needed_checkpoints(sets_, *ledger_)) digits += run.front();
    return digits;
  }

  std::optional<CheckpointLedger> ledger_;
  std::vector<CatalogueSet> sets_;
};

TEST_F(Needed, AreThoseOfTheNewestSetAndOfTheNewestFullOne) {
  EXPECT_EQ("", needed());
  add_set('1', kFull);
  EXPECT_EQ("1", needed());
  add_set('2', kIncrement);
  EXPECT_EQ("12", needed());
  add_set('3', kIncrement);
  EXPECT_EQ("13", needed());
  add_set('4', kFull);
  EXPECT_EQ("4", needed());
}

TEST_F(Needed, AreNotThoseThatAreGone) {
  add_set('1', kFull);
  add_set('2', kIncrement);
  add_set('3', kIncrement);
  ledger_->remove(std::string(16, '3'));
  EXPECT_EQ("12", needed());
}

TEST_F(Needed, AreNotThoseOfSetsThatHaveNone) {
  add_set('1', kFull);
  CatalogueSet foreign;
  sets_.push_back(foreign);
  foreign.manifest.emplace();
  foreign.manifest->kind = kFull;
  sets_.push_back(foreign);
  foreign.manifest->checkpoint = "nasbackup-0000000000000000-1111111111111111";
  sets_.push_back(foreign);
  EXPECT_EQ("1", needed());
}

TEST_F(Needed, BelongToTheMergedSetThatHasThemNow) {
  add_set('1', kFull);
  add_set('2', kIncrement);
  sets_.push_back(sets_.back());  // merged: full, with the increment's checkpoint
  sets_.back().manifest->kind = kFull;
  EXPECT_EQ("2", needed());
}

}  // namespace
}  // namespace nasbackup::set
