// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A repair that is killed at any of its calls: the next one brings the image to where the first would have brought it, byte for
// byte. The linker's --wrap (meson.build) leads pwrite64, fsync and unlink through here. One thread, and its forks.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/nasbackup.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_layout.h"
#include "tests/unit/formats/memory_image.h"

namespace {

struct Calls {
  int die_at = -1;    ///< the process ends at the call of that number, from 0
  bool half = false;  ///< a write that dies has written half
  int count = 0;
};
Calls calls;

bool dies() { return calls.count++ == calls.die_at; }

}  // namespace

extern "C" {

ssize_t __real_pwrite64(int fd, const void* bytes, size_t size, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void* bytes, size_t size, off_t offset) {
  if (!dies()) return __real_pwrite64(fd, bytes, size, offset);
  if (calls.half && __real_pwrite64(fd, bytes, size / 1024 * 512, offset) < 0) ::_exit(1);
  ::_exit(0);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd) {
  if (dies()) ::_exit(0);
  return __real_fsync(fd);
}

int __real_unlink(const char* path);
int __wrap_unlink(const char* path) {
  if (dies()) ::_exit(0);
  return __real_unlink(path);
}

}  // extern "C"

namespace nasbackup {
namespace {

constexpr std::uint64_t kCluster = 4096;

class Repair : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::path(testing::TempDir()) / "repair";
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directory(dir_);
    path_ = (dir_ / "disk.qcow2").string();
    make();
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  /// Every second cluster of a disk, and then one fault of each kind that can be repaired.
  void make() {
    const auto geometry = qcow2::Geometry::of(3000 * kCluster, kCluster);
    qcow2::Layout layout(geometry);
    std::vector<std::byte> data(kCluster, std::byte{42});
    MemoryImage image;
    for (std::uint64_t i = 0; i < geometry.guest_clusters; i += 2) {
      WriteBatch batch;
      layout.store({GuestOffset(i * kCluster), data}, batch);
      image.apply(batch);
    }
    WriteBatch tables, header;
    layout.write_tables(tables);
    image.apply(tables);
    layout.write_header(header);
    image.apply(header);
    bytes_ = image.bytes();
    spoil(image);
    write();
  }

  void spoil(const MemoryImage& image) {
    const auto header = image.at<qcow2::Header>(0);
    const std::uint64_t block = image.entry(header.refcount_table_offset, 0);
    const std::uint64_t l1 = header.l1_table_offset;
    const std::uint64_t l2 = image.entry(l1, 1) & qcow2::kEntryOffsetMask;
    bytes_.resize(bytes_.size() + 2 * kCluster);
    put(block + 2 * (bytes_.size() / kCluster - 1), Be16(7));                               // a leak
    put(block + 2 * ((image.entry(l2, 0) & qcow2::kEntryOffsetMask) / kCluster), Be16(0));  // in use, but free
    put(l2 + 8 * 2, Be64(image.entry(l2, 2) & ~qcow2::kEntryCopied));
    put(l1, Be64(image.entry(l1, 0) & ~qcow2::kEntryCopied));
    put(72, Be64(qcow2::kIncompatDirty | qcow2::kIncompatCorrupt));
  }

  template <class T>
  void put(std::uint64_t offset, T value) {
    std::memcpy(bytes_.data() + offset, static_cast<const void*>(&value), sizeof value);
  }

  void write() {
    std::filesystem::remove(journal());
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
    calls = {};
  }

  std::string content() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string journal() const { return (dir_ / ".disk.qcow2.nasbackup-repair").string(); }

  CheckReport check(CheckRepair repair) const {
    CheckOptions options;
    options.path = path_;
    options.repair = repair;
    return check_image(options);
  }

  /// True when it died.
  bool repair_dying_at(int call, bool half) {
    const pid_t child = ::fork();
    if (child == 0) {
      calls = {call, half, 0};
      check(CheckRepair::all);
      ::_exit(calls.count > call ? 0 : 42);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status) != 42;
  }

  std::filesystem::path dir_;
  std::string path_;
  std::vector<std::byte> bytes_;
};

TEST_F(Repair, MendsRefcountsFlagsAndBits) {
  const CheckReport before = check(CheckRepair::nothing);
  EXPECT_EQ(before.verdict, CheckVerdict::corrupt);
  const CheckReport after = check(CheckRepair::all);
  EXPECT_EQ(after.verdict, CheckVerdict::clean);
  EXPECT_TRUE(after.findings.empty());
  EXPECT_EQ(after.corruptions_fixed, before.corruptions);
  EXPECT_EQ(after.leaks_fixed, 1u);
  EXPECT_FALSE(std::filesystem::exists(journal()));
}

TEST_F(Repair, OfLeaksChangesNothingElse) {
  const std::string old = content();
  const CheckReport before = check(CheckRepair::nothing);
  const CheckReport after = check(CheckRepair::leaks);
  EXPECT_EQ(after.verdict, CheckVerdict::corrupt);
  EXPECT_EQ(after.corruptions, before.corruptions);
  EXPECT_EQ(after.leaks, 0u);
  const std::string now = content();
  int changed = 0;
  for (std::size_t i = 0; i < now.size(); ++i) changed += now[i] != old[i];
  EXPECT_EQ(changed, 1);  // 7 became 0
}

TEST_F(Repair, WritesNothingIntoASoundImage) {
  check(CheckRepair::all);
  calls = {};
  check(CheckRepair::all);
  EXPECT_EQ(calls.count, 0);
}

TEST_F(Repair, LosesNothingWhereverItIsKilled) {
  check(CheckRepair::all);
  const std::string right = content();
  for (const bool half : {false, true}) {
    int call = 0;
    for (write(); repair_dying_at(call, half); ++call) {
      const CheckReport after = check(CheckRepair::all);
      EXPECT_EQ(after.verdict, CheckVerdict::clean) << call;
      EXPECT_TRUE(content() == right) << call;
      EXPECT_FALSE(std::filesystem::exists(journal())) << call;
      write();
    }
    EXPECT_GT(call, 20);
  }
}

TEST_F(Repair, IsNotFinishedOnAnImageThatWasUsedMeanwhile) {
  int call = 0;
  std::string changed;
  // Up to the first kill after which the image has changed and the journal is still there.
  for (write(); repair_dying_at(call, true); ++call, write()) {
    changed = content();
    if (std::filesystem::exists(journal()) && std::memcmp(changed.data(), bytes_.data(), changed.size()) != 0) break;
  }
  const auto [mine, theirs] = std::mismatch(changed.begin(), changed.end(), reinterpret_cast<const char*>(bytes_.data()));
  const auto at = static_cast<std::size_t>(mine - changed.begin());
  changed[at] = static_cast<char>(*mine ^ *theirs ^ 0x55);
  std::ofstream(path_, std::ios::binary).write(changed.data(), static_cast<std::streamsize>(changed.size()));
  try {
    check(CheckRepair::all);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("was changed after a repair was interrupted"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(content() == changed);
  EXPECT_TRUE(std::filesystem::exists(journal()));
}

}  // namespace
}  // namespace nasbackup
