// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/catalogue.h"

#include <sys/fsuid.h>

#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

class Catalogue : public SetFixture {
 protected:
  void make_foreign_set(const std::string& vm, const std::string& name) const {
    const auto path = target_ + '/' + vm + '/' + name;
    fs::create_directories(path);
    write(path + "/root.1.qcow2", "12345");
    write(path + "/datadisk.2.qcow2", "123");
    write(path + "/dominfo.xml", "x");
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& set : list(target_, nullptr)) names.push_back(set.vm + '/' + set.name);
    return names;
  }
};

TEST_F(Catalogue, OfAnEmptyTargetIsEmpty) { EXPECT_TRUE(list(target_, nullptr).empty()); }

TEST_F(Catalogue, OfAMissingTargetIsNotFound) { EXPECT_FAULT(FaultKind::not_found, list(base_ + "/missing", nullptr)); }

TEST_F(Catalogue, ListsOurSetsWithTheirManifest) {
  const auto path = make_set(kRunA);
  const auto sets = list(target_, nullptr);
  ASSERT_EQ(1u, sets.size());
  EXPECT_EQ(path, sets[0].path);
  EXPECT_EQ("vm1", sets[0].vm);
  EXPECT_EQ(SetName::parse(sets[0].name)->rfc3339(), sets[0].time);
  EXPECT_EQ(kRunA, sets[0].manifest.value().run);
  EXPECT_EQ(5u + 7u + fs::file_size(path + "/manifest.json"), sets[0].stored_bytes());
}

TEST_F(Catalogue, ListsCloudStacksSetsWithWhatCanBeTold) {
  make_foreign_set("i-2-3-VM", "2026.01.02.03.04.05");
  const auto sets = list(target_, nullptr);
  ASSERT_EQ(1u, sets.size());
  EXPECT_FALSE(sets[0].manifest);
  EXPECT_EQ("", sets[0].note);
  EXPECT_EQ("2026-01-02T03:04:05Z", sets[0].time);
  ASSERT_EQ(2u, sets[0].images.size());
  EXPECT_EQ("root.1.qcow2", sets[0].images[0].name);
  EXPECT_EQ(9u, sets[0].stored_bytes());
}

TEST_F(Catalogue, IsOldestFirstForEachVm) {
  make_foreign_set("b", "2026.01.02.00.00.00");
  make_foreign_set("b", "2025.12.31.00.00.00");
  make_foreign_set("a", "2026.06.01.00.00.00");
  EXPECT_EQ((std::vector<std::string>{"a/2026.06.01.00.00.00", "b/2025.12.31.00.00.00", "b/2026.01.02.00.00.00"}), names());
}

TEST_F(Catalogue, NeverListsWhatIsHiddenIncompleteOrNoSet) {
  make_foreign_set("vm1", ".partial-aaaaaaaaaaaaaaaa");
  make_foreign_set("vm1", ".deleting-aaaaaaaaaaaaaaaa");
  make_foreign_set(".hidden", "2026.01.02.03.04.05");
  make_foreign_set("vm1", "holiday pictures");
  make_foreign_set("vm1", "bad\x1b[2J");
  fs::create_directories(target_ + "/vm1/2026.01.02.03.04.05");
  write(target_ + "/file", "x");
  write(target_ + "/vm1/file", "x");
  EXPECT_TRUE(names().empty()) << names().front();
}

TEST_F(Catalogue, FollowsNoLinks) {
  make_foreign_set("../elsewhere", "2026.01.02.03.04.05");
  fs::create_directory_symlink(base_ + "/elsewhere", target_ + "/vm1");
  fs::create_directory(target_ + "/vm2");
  fs::create_directory_symlink(base_ + "/elsewhere/2026.01.02.03.04.05", target_ + "/vm2/2026.01.02.03.04.05");
  EXPECT_TRUE(names().empty());
}

TEST_F(Catalogue, ListsASetWithABrokenManifestAndSaysSo) {
  const auto path = make_set(kRunA);
  make_foreign_set("vm2", "2026.01.02.03.04.05");
  write(path + "/manifest.json", "{");
  const auto sets = list(target_, nullptr);
  ASSERT_EQ(2u, sets.size());
  EXPECT_FALSE(sets[0].manifest);
  EXPECT_NE("", sets[0].note);
  EXPECT_EQ("", sets[1].note);
}

TEST_F(Catalogue, TakesNoManifestThatIsALinkAFifoOrHuge) {
  const auto path = make_set(kRunA);
  const auto manifest = path + "/manifest.json";
  fs::rename(manifest, base_ + "/manifest.json");
  fs::create_symlink(base_ + "/manifest.json", manifest);
  EXPECT_FALSE(list(target_, nullptr).at(0).manifest);
  fs::remove(manifest);
  ASSERT_EQ(0, ::mkfifo(manifest.c_str(), 0600));
  EXPECT_FALSE(list(target_, nullptr).at(0).manifest);
  fs::remove(manifest);
  write(manifest, std::string(kMaxManifestSize + 1, ' '));
  EXPECT_NE("", list(target_, nullptr).at(0).note);
}

TEST_F(Catalogue, SaysWhenFilesDifferFromTheManifest) {
  const auto path = make_set(kRunA);
  write(path + "/root.1.qcow2", "shorter or longer");
  EXPECT_EQ("root.1.qcow2 has 17 bytes, the manifest says 5", find_set(path, nullptr).note);
  fs::remove(path + "/root.1.qcow2");
  EXPECT_EQ("root.1.qcow2 is missing", find_set(path, nullptr).note);
  write(path + "/root.1.qcow2", "image");
  fs::remove(path + "/root.1.qcow2.digests");
  EXPECT_EQ("root.1.qcow2.digests is missing", find_set(path, nullptr).note);
}

TEST_F(Catalogue, SaysWhenASetWasRenamed) {
  const auto path = make_set(kRunA);
  fs::rename(path, vm_path() + "/before the update");
  const auto sets = list(target_, nullptr);
  ASSERT_EQ(1u, sets.size());
  EXPECT_EQ("before the update", sets[0].name);
  EXPECT_EQ("the manifest is that of set " + fs::path(path).filename().string(), sets[0].note);
}

TEST_F(Catalogue, FailsWhenADirectoryCannotBeRead) {
  fs::create_directory(vm_path());
  fs::permissions(vm_path(), fs::perms::none);
  fs::permissions(base_, fs::perms::all);
  ::setfsuid(65534);  // root reads everything; this thread for a moment does not
  EXPECT_FAULT(FaultKind::failed, list(target_, nullptr));
  ::setfsuid(::geteuid());
}

TEST_F(Catalogue, FindsASetByItsPathOrTheNewestOfAVm) {
  make_foreign_set("vm1", "2026.01.02.00.00.00");
  make_foreign_set("vm1", "2025.12.31.00.00.00");
  EXPECT_EQ("2025.12.31.00.00.00", find_set(vm_path() + "/2025.12.31.00.00.00/", nullptr).name);
  EXPECT_EQ("2026.01.02.00.00.00", find_set(vm_path(), nullptr).name);
  EXPECT_EQ("vm1", find_set(vm_path() + "/.", nullptr).vm);
}

TEST_F(Catalogue, FindsNoSetInAFileAPartialSetOrNothing) {
  make_foreign_set("vm1", ".partial-aaaaaaaaaaaaaaaa");
  write(base_ + "/image.qcow2", "x");
  for (const auto& path : {base_ + "/image.qcow2", vm_path() + "/.partial-aaaaaaaaaaaaaaaa", vm_path(), base_ + "/missing",
                           std::string("nbd://host/x"), std::string("/"), base_ + "/image.qcow2/x"}) {
    EXPECT_FAULT(FaultKind::not_found, find_set(path, nullptr)) << path;
    EXPECT_FALSE(is_set(path, nullptr)) << path;
  }
}

}  // namespace
}  // namespace nasbackup::set
