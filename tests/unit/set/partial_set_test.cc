// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/partial_set.h"

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <thread>

#include "engine/set/catalogue.h"
#include "engine/set/sweep.h"
#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

class PartialSetOf : public SetFixture {
 protected:
  static unsigned mode_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(0, ::lstat(path.c_str(), &status)) << path;
    return status.st_mode & 07777;
  }

  /// Runs `act` in a process of its own that is a living run, and kills it `after` the moment it says so (or at once).
  template <class Act>
  void kill_in_the_middle(const std::string& run_id, std::chrono::microseconds after, Act act) const {
    int ready[2];
    ASSERT_EQ(0, ::pipe(ready));
    const pid_t child = ::fork();
    if (child == 0) {
      const LivingRun alive(run_directory_, run_id);
      try {
        char byte = 'r';
        if (::write(ready[1], &byte, 1) == 1) act(options(run_id), ready[1]);
        ::pause();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "the run that was to be killed: %s\n", error.what());
      }
      ::_exit(1);
    }
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(1, ::read(ready[0], &byte, 1));
    if (after.count() < 0)
      EXPECT_EQ(1, ::read(ready[0], &byte, 1));  // the second byte: act() is where it wants to die
    else
      std::this_thread::sleep_for(after);
    ::close(ready[0]);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
};

TEST_F(PartialSetOf, AVmIsHiddenUntilItIsPublished) {
  const LivingRun alive(run_directory_, kRunA);
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  set->add_file("domain-config.xml", "<domain/>");
  write(set->image_path("root.1.qcow2"), "image");
  write(set->image_path("root.1.qcow2.digests"), "digests");
  EXPECT_TRUE(list(target_, nullptr).empty());
  EXPECT_FALSE(is_set(vm_path(), nullptr));

  const auto path = set->publish(manifest_with("root.1.qcow2"));
  std::uint64_t bytes = 0;
  for (const auto& file : fs::directory_iterator(path)) bytes += file.file_size();
  EXPECT_EQ(set->bytes(), bytes);
  EXPECT_EQ(vm_path() + '/' + set->name().text(), path);
  const auto sets = list(target_, nullptr);
  ASSERT_EQ(1u, sets.size());
  EXPECT_EQ(path, sets[0].path);
  EXPECT_EQ("", sets[0].note);
}

TEST_F(PartialSetOf, AVmHoldsItsFilesAndAManifestThatNamesThem) {
  const auto path = make_set(kRunA);
  EXPECT_EQ((std::vector<std::string>{"manifest.json", "root.1.qcow2", "root.1.qcow2.digests"}), names_in(path));
  const auto manifest = read_manifest(read(path + "/manifest.json"), "manifest");
  EXPECT_EQ(fs::path(path).filename(), manifest.set);
  EXPECT_EQ(kRunA, manifest.run);
  ASSERT_EQ(1u, manifest.disks.size());
  EXPECT_EQ(5u, manifest.disks[0].stored_bytes);
  EXPECT_EQ(7u, manifest.disks[0].digests.size);
  EXPECT_TRUE(manifest.files.empty());
}

TEST_F(PartialSetOf, AVmListsFilesThatAreNoImages) {
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  add_image(*set);
  set->add_file("dominfo.xml", "text");
  write(set->image_path("nvram.fd"), "123");
  const auto manifest = read_manifest(read(set->publish(manifest_with("root.1.qcow2")) + "/manifest.json"), "manifest");
  EXPECT_EQ((std::vector<ManifestFile>{{"dominfo.xml", 4, "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"},
                                       {"nvram.fd", 3, "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"}}),
            manifest.files);
}

TEST_F(PartialSetOf, AVmIsProvenWhileNobodySeesItAndNotPublishedWhenThatFails) {
  std::vector<std::string> proven;
  {
    const auto set = PartialSet::begin(options(kRunA), nullptr);
    add_image(*set);
    const auto prove = [&](const std::string& path, const std::string& name) {
      proven.push_back(name);
      EXPECT_EQ(name, read_manifest(read(path + "/manifest.json"), "manifest").set);
      EXPECT_TRUE(list(target_, nullptr).empty());
    };
    EXPECT_EQ(vm_path() + '/' + set->name().text(), set->publish(manifest_with("root.1.qcow2"), nullptr, prove));
    EXPECT_EQ(std::vector<std::string>{set->name().text()}, proven);
  }
  {
    const auto set = PartialSet::begin(options(kRunA), nullptr);
    add_image(*set);
    const auto damaged = [](const std::string& path, const std::string&) { throw Fault(FaultKind::damaged, path); };
    EXPECT_FAULT(FaultKind::damaged, set->publish(manifest_with("root.1.qcow2"), nullptr, damaged));
  }
  EXPECT_EQ(1u, list(target_, nullptr).size());
  EXPECT_EQ(proven, names_in(vm_path()));
}

TEST_F(PartialSetOf, AVmIsClosedToOthers) {
  ::umask(0);
  const auto path = make_set(kRunA);
  ::umask(022);
  EXPECT_EQ(0700u, mode_of(vm_path()));
  EXPECT_EQ(0700u, mode_of(path));
  EXPECT_EQ(0600u, mode_of(path + "/root.1.qcow2"));
  EXPECT_EQ(0600u, mode_of(path + "/manifest.json"));
}

TEST_F(PartialSetOf, AVmLeavesNothingButTheSet) {
  const auto path = make_set(kRunA);
  EXPECT_EQ(std::vector<std::string>{fs::path(path).filename()}, names_in(vm_path()));
  EXPECT_TRUE(names_in(run_directory_).empty());
}

TEST_F(PartialSetOf, AVmThatIsNotPublishedLeavesNothing) {
  {
    const auto set = PartialSet::begin(options(kRunA), nullptr);
    add_image(*set);
  }
  EXPECT_TRUE(names_in(target_).empty());
  EXPECT_TRUE(names_in(run_directory_).empty());
}

TEST_F(PartialSetOf, AVmThatIsDiscardedTouchesNoOtherSet) {
  const auto path = make_set(kRunA);
  { const auto set = PartialSet::begin(options(kRunB), nullptr); }
  EXPECT_EQ(std::vector<std::string>{fs::path(path).filename()}, names_in(vm_path()));
}

TEST_F(PartialSetOf, AVmCannotBeBegunTwice) {
  const LivingRun a(run_directory_, kRunA);
  const LivingRun b(run_directory_, kRunB);
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  EXPECT_FAULT(FaultKind::locked, PartialSet::begin(options(kRunB), nullptr));
  EXPECT_NO_THROW(set->refresh());
  auto other = options(kRunB);
  other.vm = "vm2";
  EXPECT_NO_THROW(PartialSet::begin(other, nullptr));
}

TEST_F(PartialSetOf, AVmCannotBeBegunFromTwoHosts) {
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  auto elsewhere = options(kRunB);
  elsewhere.run_directory = make_run_directory_of("elsewhere");
  EXPECT_FAULT(FaultKind::locked, PartialSet::begin(elsewhere, nullptr));
}

TEST_F(PartialSetOf, ARunThatLostItsLockDoesNotPublish) {
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  add_image(*set);
  fs::remove(vm_path() + "/.nasbackup.lock/" + kRunA);
  EXPECT_FAULT(FaultKind::locked, set->publish(manifest_with("root.1.qcow2")));
  EXPECT_TRUE(list(target_, nullptr).empty());
}

TEST_F(PartialSetOf, ATakenSecondWaitsForTheNext) {
  fs::create_directory(vm_path());
  const auto now = SetName::now();
  const auto next = now.next_second();
  for (const auto& name : {now, next}) fs::create_directory(vm_path() + '/' + name.text());
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  EXPECT_GT(set->name(), next);
}

SetOptions named(SetOptions options, const std::string& name) {
  options.name = name;
  return options;
}

TEST_F(PartialSetOf, ACallerWhoNamesItGetsThatNameOrNone) {
  {
    const auto set = PartialSet::begin(named(options(kRunA), "2026.01.02.03.04.05"), nullptr);
    EXPECT_TRUE(fs::exists(vm_path() + "/.partial-" + kRunA + ".2026.01.02.03.04.05"));
    add_image(*set);
    EXPECT_EQ(vm_path() + "/2026.01.02.03.04.05", set->publish(manifest_with("root.1.qcow2")));
  }
  EXPECT_FAULT(FaultKind::failed, PartialSet::begin(named(options(kRunA), "2026.01.02.03.04.05"), nullptr));
  EXPECT_FAULT(FaultKind::usage, PartialSet::begin(named(options(kRunA), "../x"), nullptr));
  const auto sets = list(target_, nullptr);
  ASSERT_EQ(1u, sets.size());
  EXPECT_EQ("", sets[0].note);
}

TEST_F(PartialSetOf, ANamedSetThatADeadRunLeftIsSwept) {
  const auto left = vm_path() + "/.partial-" + kRunB + ".2026.01.02.03.04.05";
  fs::create_directories(left);
  const auto other = vm_path() + "/.partial-" + kRunB + "x";  // no name of ours
  fs::create_directories(other);
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(other));
}

TEST_F(PartialSetOf, ASetForOthersCanBeReadByThem) {
  SetOptions open = options(kRunA);
  open.open_to_all = true;
  const auto set = PartialSet::begin(std::move(open), nullptr);
  add_image(*set);
  const fs::path path = set->publish(manifest_with("root.1.qcow2"));
  const auto mode = [](const fs::path& file) { return static_cast<unsigned>(fs::status(file).permissions()); };
  EXPECT_EQ(0755u, mode(path));
  EXPECT_EQ(0755u, mode(path.parent_path()));
  for (const auto& file : fs::directory_iterator(path)) EXPECT_EQ(0644u, mode(file)) << file.path();
}

TEST_F(PartialSetOf, ALifelineKnowsWhetherSomethingOfItIsThere) {
  LifelineState state;
  {
    const auto set = PartialSet::begin(options(kRunA), &state);
    EXPECT_TRUE(state.partial_set);
  }
  EXPECT_FALSE(state.partial_set);
}

TEST_F(PartialSetOf, ASecondTakenMeanwhileIsPutAsideAndNotReplaced) {
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  add_image(*set);
  const auto begun = set->name();
  const auto theirs = vm_path() + '/' + begun.text();
  fs::create_directory(theirs);
  const auto path = set->publish(manifest_with("root.1.qcow2"));
  EXPECT_EQ(vm_path() + '/' + begun.next_second().text(), path);
  EXPECT_TRUE(names_in(theirs).empty());
  const auto manifest = read_manifest(read(path + "/manifest.json"), "manifest");
  EXPECT_EQ(begun.next_second().text(), manifest.set);
}

TEST_F(PartialSetOf, AMissingImageIsNotPublished) {
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  EXPECT_FAULT(FaultKind::failed, set->publish(manifest_with("root.1.qcow2")));
}

TEST_F(PartialSetOf, AMissingDigestFileIsNotPublished) {
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  set->add_file("root.1.qcow2", "image");
  EXPECT_FAULT(FaultKind::failed, set->publish(manifest_with("root.1.qcow2")));
}

TEST_F(PartialSetOf, AnImageOfAnotherLengthThanWrittenIsNotPublished) {
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  add_image(*set);
  auto manifest = manifest_with("root.1.qcow2");
  manifest.disks[0].stored_bytes = 6;
  EXPECT_FAULT(FaultKind::failed, set->publish(manifest));
  EXPECT_TRUE(list(target_, nullptr).empty());
}

TEST_F(PartialSetOf, FileNamesStayInside) {
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  for (const char* name : {"", "..", "../x", "a/b", ".hidden", "manifest.json"}) {
    EXPECT_FAULT(FaultKind::usage, set->add_file(name, "x")) << name;
  }
  set->add_file("dominfo.xml", "x");
  EXPECT_FAULT(FaultKind::failed, set->add_file("dominfo.xml", "y"));
}

TEST_F(PartialSetOf, AMissingTargetIsNotMade) {
  auto missing = options(kRunA);
  missing.dir = base_ + "/missing";
  EXPECT_FAULT(FaultKind::not_found, PartialSet::begin(missing, nullptr));
  EXPECT_FALSE(fs::exists(missing.dir));
}

TEST_F(PartialSetOf, AVmDirectoryThatIsALinkIsRefused) {
  const auto elsewhere = make_run_directory_of("elsewhere");
  fs::create_directory_symlink(elsewhere, vm_path());
  EXPECT_FAULT(FaultKind::failed, PartialSet::begin(options(kRunA), nullptr));
  EXPECT_TRUE(names_in(elsewhere).empty());
}

TEST_F(PartialSetOf, TooLittleRoomIsFoundBeforeAnythingIsMade) {
  auto greedy = options(kRunA);
  greedy.min_free = 1ull << 60;
  const auto [seen, fault] = outcome_of([&] { PartialSet::begin(greedy, nullptr); });
  EXPECT_EQ(Seen::fault, seen);
  EXPECT_EQ(FaultKind::target_full, fault.kind());
  EXPECT_NE(std::string::npos, std::string(fault.what()).find("1099511627776 MB required")) << fault.what();
  EXPECT_NE(std::string::npos, std::string(fault.what()).find(" MB available")) << fault.what();
  EXPECT_TRUE(names_in(target_).empty());
}

TEST_F(PartialSetOf, ALockedVmIsSaidBeforeTooLittleRoom) {
  const LivingRun a(run_directory_, kRunA);
  const auto set = PartialSet::begin(options(kRunA), nullptr);
  EXPECT_FAULT(FaultKind::locked, PartialSet::begin(options(kRunB), nullptr));
}

TEST_F(PartialSetOf, AKilledRunIsSweptByTheNextAndNeverListed) {
  kill_in_the_middle(kRunA, std::chrono::microseconds(-1), [](const SetOptions& options, int ready) {
    const auto set = PartialSet::begin(options, nullptr);
    add_image(*set);
    set->add_file("dominfo.xml", "text");
    if (::write(ready, "r", 1) == 1) ::pause();
  });
  EXPECT_EQ((std::vector<std::string>{".nasbackup.lock", std::string(".partial-") + kRunA}), names_in(vm_path()));
  EXPECT_TRUE(list(target_, nullptr).empty());

  std::vector<std::string> notes;
  auto next = options(kRunB);
  next.note = [&](const std::string& line) { notes.push_back(line); };
  const auto set = PartialSet::begin(next, nullptr);
  EXPECT_EQ((std::vector<std::string>{".nasbackup.lock", std::string(".partial-") + kRunB}), names_in(vm_path()));
  EXPECT_EQ(2u, notes.size());
}

// Fifty moments spread over a little more than the time that a whole run takes here.
TEST_F(PartialSetOf, ARunKilledAnywhereLeavesWholeSetsOnlyAndTheNextSucceeds) {
  const auto begun = std::chrono::steady_clock::now();
  make_set(kRunA);
  const auto run_time = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begun);
  fs::remove_all(vm_path());
  for (int point = 0; point < 50; ++point) {
    kill_in_the_middle(fmt::format("{:016x}", point), run_time * point / 40, [](const SetOptions& options, int) {
      const auto set = PartialSet::begin(options, nullptr);
      add_image(*set);
      set->publish(manifest_with("root.1.qcow2"));
    });
    for (const auto& set : list(target_, nullptr)) {
      EXPECT_EQ("", set.note);
      EXPECT_TRUE(set.manifest) << set.path;
      EXPECT_EQ("image", read(set.path + "/root.1.qcow2"));
    }
  }
  const auto whole = list(target_, nullptr).size();
  EXPECT_NO_THROW(make_set(kRunB));
  EXPECT_EQ(whole + 1, list(target_, nullptr).size());
}

TEST_F(PartialSetOf, WhatARunKilledAnywhereLeftIsSweptByTheNext) {
  for (int point = 0; point < 10; ++point) {
    const auto run_id = fmt::format("{:016x}", point);
    kill_in_the_middle(run_id, std::chrono::microseconds(point * 150), [](const SetOptions& options, int) {
      const auto set = PartialSet::begin(options, nullptr);
      add_image(*set);
      set->add_file("more", std::string(1 << 20, 'x'));
      ::pause();
    });
    auto next = options(kRunB);
    { const auto set = PartialSet::begin(next, nullptr); }
    // A lock directory in which its maker has not yet written who it is cannot be judged before it is old.
    auto left = names_in(vm_path());
    std::erase(left, ".nasbackup.lock-" + run_id);
    EXPECT_TRUE(left.empty()) << left.front();
    fs::remove_all(vm_path());
  }
}

TEST_F(PartialSetOf, ALateRenameOfADeadRunPublishesNothing) {
  fs::create_directories(vm_path() + "/.partial-" + kRunA);
  write(vm_path() + "/.partial-" + kRunA + "/manifest.json", "{}");
  const auto set = PartialSet::begin(options(kRunB), nullptr);
  const auto from = vm_path() + "/.partial-" + kRunA;
  EXPECT_NE(0, ::rename(from.c_str(), (vm_path() + "/2026.01.01.00.00.00").c_str()));
}

TEST_F(PartialSetOf, ASweepLeavesWhatItDoesNotKnow) {
  const LivingRun alive(run_directory_, kRunA);
  const std::vector<std::string> strange = {".partial-", ".partial-XYZ", ".snapshot", std::string(".partial-") + kRunA, "notes"};
  for (const auto& name : strange) fs::create_directories(vm_path() + '/' + name);
  { const auto set = PartialSet::begin(options(kRunB), nullptr); }
  for (const auto& name : strange) EXPECT_TRUE(fs::exists(vm_path() + '/' + name)) << name;
}

TEST_F(PartialSetOf, ASweepDoesNotFollowALinkInAPartialSet) {
  const auto elsewhere = make_run_directory_of("elsewhere");
  write(elsewhere + "/precious", "data");
  fs::create_directories(vm_path() + "/.partial-" + kRunA);
  fs::create_directory_symlink(elsewhere, vm_path() + "/.partial-" + kRunA + "/link");
  fs::create_directory_symlink(elsewhere, vm_path() + "/.partial-cccccccccccccccc");
  { const auto set = PartialSet::begin(options(kRunB), nullptr); }
  EXPECT_FALSE(fs::exists(vm_path() + "/.partial-" + kRunA));
  EXPECT_EQ("data", read(elsewhere + "/precious"));
}

TEST_F(PartialSetOf, WhatASweepCannotRemoveIsLeftHiddenForTheNext) {
  const auto stuck = vm_path() + "/.partial-" + kRunA + "/directory/in/it";
  fs::create_directories(stuck);
  std::vector<std::string> notes;
  auto next = options(kRunB);
  next.note = [&](const std::string& line) { notes.push_back(line); };
  { const auto set = PartialSet::begin(next, nullptr); }
  EXPECT_EQ(std::vector<std::string>{std::string(".deleting-") + kRunA}, names_in(vm_path()));
  EXPECT_EQ(1u, notes.size());
}

/// Needs the right to mount; a test of it is skipped where that is not given.
class PartialSetOnAMount : public PartialSetOf {
 protected:
  ~PartialSetOnAMount() override { unmount(); }
  bool mount_small(const std::string& size) {
    mounted_ = target_;
    return ::mount("tmpfs", target_.c_str(), "tmpfs", 0, size.c_str()) == 0;
  }
  bool bind(const std::string& path) {
    mounted_ = path;
    return ::mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) == 0;
  }
  void unmount() {
    if (!mounted_.empty()) ::umount2(mounted_.c_str(), MNT_DETACH);
    mounted_.clear();
  }
  std::string mounted_;
};

TEST_F(PartialSetOnAMount, ThatIsFullReportsItAndLeavesNothing) {
  if (!mount_small("size=256k")) GTEST_SKIP() << "mounting a tmpfs is not permitted: " << std::strerror(errno);
  {
    const auto set = PartialSet::begin(options(kRunA), nullptr);
    EXPECT_FAULT(FaultKind::target_full, set->add_file("big", std::string(1 << 20, 'x')));
  }
  EXPECT_TRUE(names_in(target_).empty());
}

TEST_F(PartialSetOnAMount, ThatADeadRunFilledIsSweptBeforeTheRoomIsCounted) {
  if (!mount_small("size=4m")) GTEST_SKIP() << "mounting a tmpfs is not permitted: " << std::strerror(errno);
  fs::create_directories(vm_path() + "/.partial-" + kRunA);
  write(vm_path() + "/.partial-" + kRunA + "/root.1.qcow2", std::string(3 << 20, 'x'));
  auto next = options(kRunB);
  next.min_free = 2 << 20;
  EXPECT_NO_THROW(PartialSet::begin(next, nullptr));
}

TEST_F(PartialSetOnAMount, ThatIsReadOnlyIsAPlainFailure) {
  if (!mount_small("size=4m")) GTEST_SKIP() << "mounting a tmpfs is not permitted: " << std::strerror(errno);
  ASSERT_EQ(0, ::mount(nullptr, target_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr));
  EXPECT_FAULT(FaultKind::failed, PartialSet::begin(options(kRunA), nullptr));
}

// A directory that is a mount point cannot be renamed (EBUSY), like one that a CIFS client holds open.
TEST_F(PartialSetOnAMount, ThatRefusesTheRenameForAWhileIsTriedAgain) {
  auto patient = options(kRunA);
  patient.rename_patience = std::chrono::minutes(5);
  const auto set = PartialSet::begin(patient, nullptr);
  add_image(*set);
  const auto partial = vm_path() + "/.partial-" + kRunA;
  if (!bind(partial)) GTEST_SKIP() << "a bind mount is not permitted: " << std::strerror(errno);
  std::jthread release([&] {
    while (!fs::exists(partial + "/manifest.json")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    unmount();
  });
  const auto path = set->publish(manifest_with("root.1.qcow2"));
  EXPECT_EQ("", find_set(path, nullptr).note);
}

TEST_F(PartialSetOnAMount, ThatGoesOnRefusingTheRenamePublishesNothing) {
  auto hasty = options(kRunA);
  hasty.rename_patience = std::chrono::milliseconds(30);
  auto set = PartialSet::begin(hasty, nullptr);
  add_image(*set);
  if (!bind(vm_path() + "/.partial-" + kRunA)) GTEST_SKIP() << "a bind mount is not permitted: " << std::strerror(errno);
  EXPECT_FAULT(FaultKind::failed, set->publish(manifest_with("root.1.qcow2")));
  EXPECT_TRUE(list(target_, nullptr).empty());
  unmount();
  set.reset();
  EXPECT_TRUE(names_in(target_).empty());
}

}  // namespace
}  // namespace nasbackup::set
