// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/publication.h"

#include "engine/set/sweep.h"
#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

class Publication : public SetFixture {
 protected:
  Publication() : vm_(Directory::open(target_, nullptr)) {}
  void make(const std::string& name, const std::string& manifest) const {
    fs::create_directory(target_ + '/' + name);
    write(target_ + '/' + name + "/manifest.json", manifest);
  }
  Moved move() const { return move_into_place(vm_, ".partial-x", "set", "mine", std::chrono::milliseconds(1)); }

  Directory vm_;
};

TEST_F(Publication, RenamesThePartialSet) {
  make(".partial-x", "mine");
  EXPECT_EQ(Moved::done, move());
  EXPECT_EQ(std::vector<std::string>{"set"}, names_in(target_));
}

TEST_F(Publication, DoesNotReplaceAnotherSet) {
  make(".partial-x", "mine");
  make("set", "theirs");
  EXPECT_EQ(Moved::name_taken, move());
  EXPECT_EQ("theirs", read(target_ + "/set/manifest.json"));
}

TEST_F(Publication, DoesNotReplaceAnEmptyDirectoryThatSomebodyHasJustMade) {
  make(".partial-x", "mine");
  fs::create_directory(target_ + "/set");
  EXPECT_EQ(Moved::name_taken, move());
  EXPECT_TRUE(names_in(target_ + "/set").empty());
}

TEST_F(Publication, IsDoneWhenALostAnswerHidARenameThatHappened) {
  make("set", "mine");  // .partial-x is gone
  EXPECT_EQ(Moved::done, move());
}

TEST_F(Publication, FailsWhenThereIsNeitherPartialSetNorSet) { EXPECT_FAULT(FaultKind::failed, move()); }

TEST_F(Publication, TellsSetsApartByTheirManifest) {
  make("set", "theirs");
  EXPECT_FALSE(is_published(vm_, "set", "mine"));
  EXPECT_FALSE(is_published(vm_, "other", "mine"));
  EXPECT_TRUE(is_published(vm_, "set", "theirs"));
}

TEST_F(Publication, WaitsForANameNoLongerThanAStopIsAskedFor) {
  for (auto name = SetName::now(); names_in(target_).size() < 10; name = name.next_second()) {
    fs::create_directory(target_ + '/' + name.text());
  }
  std::stop_source source;
  source.request_stop();
  EXPECT_FAULT(FaultKind::interrupted, wait_for_free_name(vm_, source.get_token()));
}

TEST_F(Publication, IsUndoneByRenamingFirst) {
  make("set", "mine");
  EXPECT_EQ(0, remove_aside(vm_, "set", "aaaaaaaaaaaaaaaa"));
  EXPECT_TRUE(names_in(target_).empty());
}

}  // namespace
}  // namespace nasbackup::set
