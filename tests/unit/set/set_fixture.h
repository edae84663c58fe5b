// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the tests of a set share: a target and a run directory of their own, runs that are alive as a Lifeline makes them,
// and small looks at files. Each test has its own.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"
#include "engine/set/partial_set.h"

namespace nasbackup::set {

namespace fs = std::filesystem;

/// A run that is alive for as long as this object: it holds the lock file as a Lifeline does.
class LivingRun {
 public:
  LivingRun(const std::string& run_directory, const std::string& id) {
    const auto path = run_directory + "/run-" + id + ".lock";
    fd_ = FileDescriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(0, ::flock(fd_.get(), LOCK_EX)) << path;
  }
  void die() { fd_.reset(); }

 private:
  FileDescriptor fd_;
};

/// The Fault that `act` throws, if any.
enum class Seen { done, fault };
template <class Act>
std::pair<Seen, Fault> outcome_of(Act act) {
  try {
    act();
  } catch (const Fault& fault) {
    return {Seen::fault, fault};
  }
  return {Seen::done, Fault(FaultKind::failed, "")};
}

template <class Act>
testing::AssertionResult throws_fault(FaultKind kind, Act act) {
  const auto [seen, fault] = outcome_of(act);
  if (seen == Seen::done) return testing::AssertionFailure() << "no Fault";
  if (fault.kind() == kind) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "kind " << static_cast<int>(fault.kind()) << ": " << fault.what();
}

#define EXPECT_FAULT(kind, ...) EXPECT_TRUE(throws_fault(kind, [&] { __VA_ARGS__; }))

class SetFixture : public testing::Test {
 protected:
  static constexpr char kRunA[] = "aaaaaaaaaaaaaaaa";
  static constexpr char kRunB[] = "bbbbbbbbbbbbbbbb";

  // In memory where there is room for that: hundreds of runs with a dozen fsyncs each.
  SetFixture() {
    std::string pattern = (fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path()) / "nasbackup-set-XXXXXX";
    base_ = ::mkdtemp(pattern.data());
    target_ = base_ + "/target";
    run_directory_ = make_run_directory_of("run");
    fs::create_directory(target_);
  }
  ~SetFixture() override { fs::remove_all(base_); }

  std::string make_run_directory_of(const std::string& name) const {
    const auto path = base_ + '/' + name;
    fs::create_directory(path);
    ::chmod(path.c_str(), 0700);
    return path;
  }

  SetOptions options(const std::string& run_id) const {
    SetOptions options;
    options.dir = target_;
    options.vm = "vm1";
    options.run_id = run_id;
    options.min_free = 0;
    options.run_directory = run_directory_;
    options.lock_watch = std::chrono::milliseconds(20);
    return options;
  }

  static void write(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
    ASSERT_TRUE(fs::exists(path)) << path;
  }
  static std::string read(const std::string& path) {
    std::ostringstream content;
    content << std::ifstream(path, std::ios::binary).rdbuf();
    return content.str();
  }
  /// All names in a directory, sorted; empty when there is none.
  static std::vector<std::string> names_in(const std::string& path) {
    std::vector<std::string> names;
    if (fs::exists(path)) {
      for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  static std::vector<std::string> hidden_in(const std::string& path) {
    auto names = names_in(path);
    std::erase_if(names, [](const std::string& name) { return name.front() != '.'; });
    return names;
  }

  /// A manifest for a set with one image.
  static Manifest manifest_with(const std::string& image) {
    Manifest manifest;
    manifest.vm_name = "vm1";
    manifest.tool_version = "0.1.0";
    ManifestDisk disk;
    disk.name = "vda";
    disk.id = "1";
    disk.file = image;
    disk.source = "/images/1";
    disk.source_type = "file";
    disk.virtual_size = 1 << 20;
    disk.digests.file = image + kDigestsSuffix;
    disk.digests.root = std::string(64, '0');
    manifest.disks.push_back(disk);
    return manifest;
  }

  /// An image with its digests; what is in them is nothing to a partial set.
  static void add_image(PartialSet& set) {
    set.add_file("root.1.qcow2", "image");
    set.add_file("root.1.qcow2.digests", "digests");
  }

  /// Writes one whole set; returns its path.
  std::string make_set(const std::string& run_id) const {
    const auto set = PartialSet::begin(options(run_id), nullptr);
    add_image(*set);
    return set->publish(manifest_with("root.1.qcow2"));
  }

  std::string vm_path() const { return target_ + "/vm1"; }

  std::string base_;
  std::string target_;
  std::string run_directory_;
};

}  // namespace nasbackup::set
