// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Chains of sets, and their deletion with each of its system calls failing once.
#include "engine/set/deletion.h"

#include "engine/set/chain.h"
#include "engine/set/manifest_seal.h"
#include "tests/unit/set/faulty_calls.h"
#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

class SetChains : public SetFixture {
 protected:
  ~SetChains() override { arm(nullptr); }

  /// A set by hand, so that nobody has to wait for its second; of a parent if there is a name.
  std::string place(const std::string& name, const std::string& parent = "") const {
    Manifest manifest = manifest_with("root.1.qcow2");
    manifest.set = name;
    manifest.time = SetName::parse(name)->rfc3339();
    manifest.run = kRunA;
    if (!parent.empty()) manifest.kind = kIncrement;
    if (!parent.empty()) manifest.parent = ManifestParent{parent, seal_of(parent), ""};
    manifest.disks[0].stored_bytes = 5;
    manifest.disks[0].digests.size = 7;
    const std::string path = vm_path() + "/" + name;
    fs::create_directories(path);
    write(path + "/root.1.qcow2", "image");
    write(path + "/root.1.qcow2.digests", "digests");
    write(path + "/manifest.json", write_manifest(manifest));
    return path;
  }
  std::string seal_of(const std::string& name) const {
    const auto path = vm_path() + "/" + name + "/manifest.json";
    return fs::exists(path) ? read_manifest(read(path), path).seal.sha256 : std::string(64, '0');
  }
  /// One full set, two increments, one on the full set again, another chain.
  void place_all() const {
    place(kFullSet);
    place(kFirst, kFullSet);
    place(kSecond, kFirst);
    place(kSide, kFullSet);
    place(kOther);
  }
  std::vector<CatalogueSet> sets() const { return list_vm(Directory::open(vm_path(), nullptr), "vm1"); }
  std::vector<std::string> names() const { return names_of(sets()); }
  static std::vector<std::string> names_of(const std::vector<CatalogueSet>& sets) {
    std::vector<std::string> names;
    for (const auto& set : sets) names.push_back(set.name);
    return names;
  }
  static std::vector<std::string> names_of(const std::vector<const CatalogueSet*>& sets) {
    std::vector<std::string> names;
    for (const auto* set : sets) names.push_back(set->name);
    return names;
  }
  DeletionOptions deletion_of(const std::string& name, const std::string& run_id = kRunB) const {
    DeletionOptions deletion;
    deletion.path = vm_path() + "/" + name;
    deletion.run_id = run_id;
    deletion.run_directory = run_directory_;
    return deletion;
  }

  static constexpr char kFullSet[] = "2026.01.01.00.00.00", kFirst[] = "2026.01.02.00.00.00", kSecond[] = "2026.01.03.00.00.00";
  static constexpr char kSide[] = "2026.01.04.00.00.00", kOther[] = "2026.01.05.00.00.00";
};

using Names = std::vector<std::string>;

TEST_F(SetChains, KnowWhatStandsOnWhat) {
  place_all();
  const auto all = sets();
  const Chains chains(all);
  EXPECT_EQ((Names{kSecond, kFirst, kFullSet}), names_of(chains.below(all[2])));
  EXPECT_EQ((Names{kSecond, kSide, kFirst}), names_of(chains.above(all[0])));
  EXPECT_TRUE(chains.above(all[4]).empty());
  for (const auto& set : all) EXPECT_EQ("", chains.break_of(set));
}

TEST_F(SetChains, SayWhereTheyAreBroken) {
  place_all();
  fs::remove_all(vm_path() + "/" + kFullSet);
  const auto all = sets();
  const Chains chains(all);
  EXPECT_EQ("its parent 2026.01.01.00.00.00 is missing", chains.break_of(all[0]));
  EXPECT_EQ("2026.01.02.00.00.00, on which it stands, has a parent that is missing", chains.break_of(all[1]));
  EXPECT_EQ("", chains.break_of(all[3]));
}

TEST_F(SetChains, SeeThatAParentWasReplaced) {
  place(kFullSet);
  place(kFirst, kFullSet);
  Manifest other = manifest_with("root.1.qcow2");
  other.set = kFullSet;
  other.time = SetName::parse(kFullSet)->rfc3339();
  other.run = kRunB;
  write(vm_path() + "/" + kFullSet + "/manifest.json", write_manifest(other));
  const auto all = sets();
  EXPECT_EQ("its parent 2026.01.01.00.00.00 is not the one that it was made from", Chains(all).break_of(all[1]));
}

TEST_F(SetChains, EndWhereRenamedDirectoriesMakeThemGoInCircles) {
  place(kFullSet);
  place(kFirst, kFullSet);
  place(kSecond, kFirst);
  fs::remove_all(vm_path() + "/" + kFullSet);
  fs::rename(vm_path() + "/" + kSecond, vm_path() + "/" + kFullSet);  // stands on kFirst, which stands on it
  const auto all = sets();
  const Chains chains(all);
  EXPECT_EQ(2u, chains.below(all[0]).size());
  EXPECT_EQ(1u, chains.above(all[0]).size());
  EXPECT_FAULT(FaultKind::failed, delete_sets(deletion_of(kFullSet), nullptr));
}

TEST_F(SetChains, LoseASetThatNobodyNeeds) {
  place_all();
  EXPECT_EQ(Names{kSecond}, names_of(delete_sets(deletion_of(kSecond), nullptr)));
  EXPECT_EQ((Names{kFullSet, kFirst, kSide, kOther}), names());
  EXPECT_TRUE(hidden_in(vm_path()).empty());
}

TEST_F(SetChains, AreNotOrphaned) {
  place_all();
  EXPECT_FAULT(FaultKind::failed, delete_sets(deletion_of(kFullSet), nullptr));
  auto forced = deletion_of(kFirst);
  forced.force = true;
  EXPECT_FAULT(FaultKind::failed, delete_sets(forced, nullptr));
  EXPECT_EQ(5u, sets().size());
}

TEST_F(SetChains, GoFromTheLeafWhenAskedTo) {
  place_all();
  auto deletion = deletion_of(kFullSet);
  deletion.with_children = deletion.dry_run = true;
  const Names expected{kSecond, kSide, kFirst, kFullSet};
  EXPECT_EQ(expected, names_of(delete_sets(deletion, nullptr)));
  EXPECT_EQ(5u, sets().size());
  deletion.dry_run = false;
  EXPECT_EQ(expected, names_of(delete_sets(deletion, nullptr)));
  EXPECT_EQ(Names{kOther}, names());
  EXPECT_TRUE(hidden_in(vm_path()).empty());
}

TEST_F(SetChains, AreNotTouchedWhileAnotherRunHoldsTheVm) {
  const LivingRun alive(run_directory_, kRunA);
  const auto running = PartialSet::begin(options(kRunA), nullptr);
  place(kFullSet);
  EXPECT_FAULT(FaultKind::locked, delete_sets(deletion_of(kFullSet), nullptr));
  EXPECT_EQ(Names{kFullSet}, names());
}

/// Fails each call of a deletion once. What is left is a chain in which everything is whole, and the next run sweeps the rest.
TEST_F(SetChains, AreWholeOrGoneWhicheverCallFails) {
  for (const int error : {EIO, ESTALE, ENOTEMPTY}) {
    for (int k = 0;; ++k) {
      fs::remove_all(target_);
      place_all();
      FaultyCalls calls;
      calls.fail_at = k;
      calls.error = error;
      auto deletion = deletion_of(kFullSet);
      deletion.with_children = true;
      std::string warned;
      deletion.warn = [&](const std::string& line) { warned = line; };
      arm(&calls);
      const auto [seen, fault] = outcome_of([&] { delete_sets(deletion, nullptr); });
      arm(nullptr);
      SCOPED_TRACE(std::to_string(error) + " at call " + std::to_string(k) + ": " + fault.what());
      const auto all = sets();
      const Chains chains(all);
      for (const auto& set : all) {
        EXPECT_EQ("", set.note);
        EXPECT_EQ("", chains.break_of(set));
        EXPECT_EQ(3u, names_in(set.path).size());
      }
      if (seen == Seen::done) {
        EXPECT_EQ(Names{kOther}, names_of(all));
      }
      if (!hidden_in(vm_path()).empty()) {
        delete_sets(deletion_of(kOther, "cccccccccccccccc"), nullptr);  // any run for the VM
        EXPECT_TRUE(hidden_in(vm_path()).empty()) << hidden_in(vm_path()).front();
      }
      if (calls.count <= k) break;
    }
  }
}

TEST_F(SetChains, LoseTheLeafFirstAndDurably) {
  place_all();
  std::vector<std::string> order;
  FaultyCalls calls;
  calls.before = [&](const std::string& call) {
    if (call.starts_with("renameat 2026")) order.push_back(call.substr(9, 19));
    if (call.starts_with("fsync ") && call.ends_with("/vm1")) order.push_back("fsync");
    if (call.starts_with("unlinkat root")) order.push_back("unlink");
  };
  auto deletion = deletion_of(kFirst);
  deletion.with_children = true;
  arm(&calls);
  delete_sets(deletion, nullptr);
  arm(nullptr);
  EXPECT_EQ((Names{kSecond, "fsync", kFirst, "fsync"}), Names(order.begin(), order.begin() + 4));
  EXPECT_EQ("unlink", order.at(4));
  EXPECT_EQ("fsync", order.back());
}

}  // namespace
}  // namespace nasbackup::set
