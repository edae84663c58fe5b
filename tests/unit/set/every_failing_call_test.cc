// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The life of a partial set with each of its system calls failing once, and the order of those calls.
#include <fmt/format.h>

#include "engine/set/catalogue.h"
#include "tests/unit/set/faulty_calls.h"
#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

class EveryFailingCall : public SetFixture {
 protected:
  ~EveryFailingCall() override { arm(nullptr); }

  /// A target in which a dead run of this host left its lock and its partial set.
  void lay_out() const {
    fs::remove_all(target_);
    fs::create_directories(vm_path() + "/.partial-" + kRunA);
    write(vm_path() + "/.partial-" + kRunA + "/root.1.qcow2", "half");
    fs::create_directory(vm_path() + "/.nasbackup.lock");
    write(vm_path() + "/.nasbackup.lock/" + kRunA, write_lock_record(own_lock_record(kRunA, run_directory_)));
  }

  /// A whole run; the path of its set, or empty when it failed, which only a Fault may say.
  std::string run(FaultyCalls& calls) const {
    auto hasty = options(kRunB);
    hasty.rename_patience = std::chrono::milliseconds(0);
    std::string path;
    arm(&calls);
    try {
      const auto set = PartialSet::begin(hasty, nullptr);
      add_image(*set);
      set->refresh();
      path = set->publish(manifest_with("root.1.qcow2"));
    } catch (const Fault& fault) {
      EXPECT_EQ(std::string::npos, std::string(fault.what()).find('\n')) << fault.what();
    }
    arm(nullptr);
    return path;
  }

  /// What must hold after any run, and that the next one finds nothing in its way.
  void judge(const std::string& path) const {
    const auto sets = fs::exists(target_) ? list(target_, nullptr) : std::vector<CatalogueSet>();
    ASSERT_EQ(path.empty() ? 0u : 1u, sets.size());
    for (const auto& set : sets) {
      EXPECT_EQ(path, set.path);
      EXPECT_EQ("", set.note);
      EXPECT_EQ("image", read(path + "/root.1.qcow2"));
      fs::remove_all(path);  // its second is free again, so that nobody has to wait
    }
    const auto next = make_set("cccccccccccccccc");
    EXPECT_EQ(std::vector<std::string>{fs::path(next).filename()}, names_in(vm_path()));
  }

  static std::size_t open_descriptors() { return names_in("/proc/self/fd").size(); }

  /// Fails each call once; returns how many runs published in spite of it.
  int fail_each(FaultyCalls plan) const {
    int published = 0;
    for (int k = 0;; ++k) {
      lay_out();
      std::string failed_call;
      FaultyCalls calls = plan;
      calls.fail_at = k;
      calls.before = [&](const std::string& call) {
        if (calls.count == k) failed_call = call;
      };
      const auto before = open_descriptors();
      const auto path = run(calls);
      EXPECT_EQ(before, open_descriptors()) << "call " << k << ": " << failed_call;
      if (calls.count <= k) return published;  // there is no call of that number any more
      SCOPED_TRACE(fmt::format("call {}: {}, errno {}", k, failed_call, plan.error));
      judge(path);
      published += path.empty() ? 0 : 1;
    }
  }
};

TEST_F(EveryFailingCall, LeavesAWholeSetOrNoneAndTheNextRunSucceeds) {
  for (const int error : {EIO, ENOSPC, ESTALE}) {
    FaultyCalls plan;
    plan.error = error;
    fail_each(plan);
  }
}

TEST_F(EveryFailingCall, ThatIsARenameWhoseAnswerGotLostIsFoundToHaveHappened) {
  FaultyCalls plan;
  plan.error = ENOENT;
  plan.only_renames = true;
  plan.rename_happens = true;
  EXPECT_EQ(4, fail_each(plan));  // old lock aside, lock, old partial set aside, publication: none ends the run
}

TEST_F(EveryFailingCall, ThatIsAnFsyncOrCloseIsReported) {
  for (const char* name : {"root.1.qcow2", "manifest.json"}) {
    for (const std::string call : {"fsync ", "close "}) {
      lay_out();
      FaultyCalls calls;
      calls.error = ENOSPC;
      calls.before = [&](const std::string& seen) {
        if (seen.starts_with(call) && seen.ends_with(name) && calls.fail_at < 0) calls.fail_at = calls.count;
      };
      EXPECT_EQ("", run(calls)) << call << name;
      EXPECT_GE(calls.fail_at, 0) << call << name;
    }
  }
}

TEST_F(EveryFailingCall, OfADirectorysFsyncThatTheFileSystemLacksIsTolerated) {
  for (const int error : {EINVAL, ENOTSUP}) {
    lay_out();
    FaultyCalls calls;
    calls.error = error;
    calls.before = [&](const std::string& seen) {
      if (seen.starts_with("fsync ") && seen.ends_with("/vm1")) calls.fail_at = calls.count;
    };
    EXPECT_NE("", run(calls));
    EXPECT_GE(calls.fail_at, 0);
  }
}

TEST_F(EveryFailingCall, ComesInTheOrderThatKeepsASetWhole) {
  lay_out();
  std::vector<std::string> order;
  FaultyCalls calls;
  const auto partial = std::string(".partial-") + kRunB;
  calls.before = [&](const std::string& call) {
    if (call.starts_with("fsync ")) order.push_back("fsync " + fs::path(call).filename().string());
    if (!call.starts_with("renameat " + partial)) return;
    order.push_back("rename");
    for (const auto& fd : fs::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      EXPECT_EQ(std::string::npos, fs::read_symlink(fd, gone).string().find(partial)) << "is still open";
    }
  };
  EXPECT_NE("", run(calls));
  const auto place = [&](const std::string& step) { return std::find(order.begin(), order.end(), step) - order.begin(); };
  EXPECT_LT(place("fsync root.1.qcow2"), place("fsync manifest.json"));
  EXPECT_LT(place("fsync manifest.json"), place("fsync " + partial));
  EXPECT_LT(place("fsync " + partial), place("rename"));
  EXPECT_LT(place("rename"), place("fsync vm1"));
  EXPECT_EQ("fsync vm1", order.back());
}

}  // namespace
}  // namespace nasbackup::set
