// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The image locks against each other and against single bytes locked by hand as QEMU locks them. That real QEMU agrees is shown
// in tests/hostile/test_image_locks.py. Two open files of one process conflict as those of two processes do.
#include "engine/io/image_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"

namespace nasbackup {
namespace {

class ImageLockTest : public testing::Test {
 protected:
  ImageLockTest() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/image_lock_XXXXXX";
    const FileDescriptor made(::mkstemp(path_.data()));
    EXPECT_EQ(::ftruncate(made.get(), 1 << 20), 0);
  }
  ~ImageLockTest() override { ::unlink(path_.c_str()); }

  FileDescriptor open(int flags = O_RDONLY) const { return FileDescriptor(::open(path_.c_str(), flags | O_CLOEXEC)); }
  ImageLock read_lock(const FileDescriptor& file) const { return ImageLock::for_reading(file.get(), path_); }
  ImageLock write_lock(const FileDescriptor& file) const { return ImageLock::for_writing(file.get(), path_); }

  static bool lock_by_hand(const FileDescriptor& file, off_t byte, short type = F_RDLCK) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_start = byte;
    lock.l_len = 1;
    return ::fcntl(file.get(), F_OFD_SETLK, &lock) == 0;
  }
  /// Does somebody else hold this byte?
  bool is_held(off_t byte) const {
    const FileDescriptor file = open();
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_start = byte;
    lock.l_len = 1;
    EXPECT_EQ(::fcntl(file.get(), F_OFD_GETLK, &lock), 0);
    return lock.l_type != F_UNLCK;
  }
  std::string held_bytes() const {
    std::string bytes;
    for (off_t byte = 0; byte < 300; ++byte)
      if (is_held(byte)) bytes += (bytes.empty() ? "" : " ") + std::to_string(byte);
    return bytes;
  }
  void write_something(off_t at) const {
    const FileDescriptor writer = open(O_WRONLY);
    ASSERT_EQ(::pwrite(writer.get(), "x", 1, at), 1);
  }

  std::string path_;
};

/// The fault that `call` throws, as "kind: message"; "nothing" when it throws none.
template <class Call>
std::string fault_of(Call call) {
  try {
    call();
    return "nothing";
  } catch (const Fault& fault) {
    const char* kind = fault.kind() == FaultKind::source   ? "source: "
                       : fault.kind() == FaultKind::locked ? "locked: "
                                                           : "other: ";
    return kind + std::string(fault.what());
  }
}

TEST_F(ImageLockTest, HoldsTheBytesThatQemuHoldsForASource) {
  const FileDescriptor file = open();
  const ImageLock lock = read_lock(file);
  EXPECT_EQ(held_bytes(), "100 201 203");
  EXPECT_EQ(lock.note(), "");
}

TEST_F(ImageLockTest, HoldsTheBytesThatQemuHoldsForATarget) {
  const FileDescriptor file = open(O_RDWR);
  const ImageLock lock = write_lock(file);
  EXPECT_EQ(held_bytes(), "100 101 103 201 203");
}

TEST_F(ImageLockTest, GivesAllBytesUpAtTheEnd) {
  const FileDescriptor file = open(O_RDWR);
  { const ImageLock lock = write_lock(file); }
  EXPECT_EQ(held_bytes(), "");
}

TEST_F(ImageLockTest, MovesWithoutLosingTheBytes) {
  const FileDescriptor file = open();
  ImageLock first = read_lock(file);
  const ImageLock second = std::move(first);
  EXPECT_EQ(held_bytes(), "100 201 203");
}

TEST_F(ImageLockTest, LetsTwoReadersIn) {
  const FileDescriptor one = open(), other = open();
  const ImageLock first = read_lock(one);
  EXPECT_EQ(fault_of([&] { read_lock(other); }), "nothing");
}

TEST_F(ImageLockTest, RefusesASourceThatIsATarget) {
  const FileDescriptor one = open(O_RDWR), other = open();
  const ImageLock target = write_lock(one);
  EXPECT_EQ(fault_of([&] { read_lock(other); }), "source: " + path_ + ": in use: another process has it open for writing");
}

TEST_F(ImageLockTest, RefusesATargetThatIsASource) {
  const FileDescriptor one = open();
  const ImageLock source = read_lock(one);
  const FileDescriptor other = open(O_RDWR);
  EXPECT_EQ(fault_of([&] { write_lock(other); }), "locked: " + path_ + ": in use: another process has it open");
}

TEST_F(ImageLockTest, LeavesNothingLockedAfterARefusal) {
  const FileDescriptor one = open();
  {
    const ImageLock source = read_lock(one);
    const FileDescriptor other = open(O_RDWR);
    EXPECT_NE(fault_of([&] { write_lock(other); }), "nothing");
  }
  EXPECT_EQ(held_bytes(), "");
}

TEST_F(ImageLockTest, RefusesASourceWhoseWriteOrResizePermissionIsUsed) {
  for (const off_t byte : {101, 103}) {
    const FileDescriptor vm = open(), file = open();
    ASSERT_TRUE(lock_by_hand(vm, byte));
    EXPECT_EQ(fault_of([&] { read_lock(file); }), "source: " + path_ + ": in use: another process has it open for writing")
        << byte;
  }
}

TEST_F(ImageLockTest, RefusesASourceThatAnotherDoesNotShare) {
  const FileDescriptor other = open(), file = open();
  ASSERT_TRUE(lock_by_hand(other, 200));
  EXPECT_EQ(fault_of([&] { read_lock(file); }), "source: " + path_ + ": in use: another process does not share it");
}

TEST_F(ImageLockTest, DoesNotMindPermissionsThatDoNoHarm) {
  const FileDescriptor other = open(), file = open();
  for (const off_t byte : {0, 100, 102, 201, 202, 203}) ASSERT_TRUE(lock_by_hand(other, byte));
  EXPECT_EQ(fault_of([&] { read_lock(file); }), "nothing");
}

TEST_F(ImageLockTest, RefusesAByteThatAnotherHoldsAlone) {
  const FileDescriptor other = open(O_RDWR), file = open(O_RDWR);
  ASSERT_TRUE(lock_by_hand(other, 201, F_WRLCK));
  EXPECT_EQ(fault_of([&] { write_lock(file); }), "locked: " + path_ + ": in use: another process holds it for itself alone");
}

TEST_F(ImageLockTest, RefusesASourceThatAProgramWithoutLocksHasOpenForWriting) {
  const FileDescriptor editor = open(O_RDWR), file = open();
  const std::string fault = fault_of([&] { read_lock(file); });
  if (fault == "nothing") GTEST_SKIP() << path_ << ": this file system does not tell who has a file open for writing";
  EXPECT_EQ(fault, "source: " + path_ + ": in use: another process has it open for writing");
}

TEST_F(ImageLockTest, DoesNotKeepOthersFromOpeningTheFile) {
  const FileDescriptor file = open();
  const ImageLock lock = read_lock(file);
  EXPECT_TRUE(open(O_RDWR | O_NONBLOCK));  // a lease that were kept would make this wait
}

TEST_F(ImageLockTest, ConfirmsASourceThatNobodyTouched) {
  const FileDescriptor file = open();
  ImageLock lock = read_lock(file);
  EXPECT_EQ(fault_of([&] { lock.confirm_undisturbed(); }), "nothing");
  EXPECT_EQ(held_bytes(), "100 201 203");
}

TEST_F(ImageLockTest, FindsThatASourceWasWrittenToMeanwhile) {
  const FileDescriptor file = open();
  ImageLock lock = read_lock(file);
  ::usleep(20'000);  // longer than a tick of the clock that stamps files
  write_something(4096);
  EXPECT_EQ(fault_of([&] { lock.confirm_undisturbed(); }),
            "source: " + path_ + ": changed while it was read: another process has written to it");
}

TEST_F(ImageLockTest, FindsThatASourceShrankMeanwhile) {
  const FileDescriptor file = open();
  ImageLock lock = read_lock(file);
  ASSERT_EQ(::truncate(path_.c_str(), 512), 0);
  EXPECT_EQ(fault_of([&] { lock.confirm_undisturbed(); }),
            "source: " + path_ + ": changed while it was read: size was 1048576, is 512");
}

TEST_F(ImageLockTest, FindsAWriterThatCameWithoutLooking) {
  const FileDescriptor file = open(), vm = open();
  ImageLock lock = read_lock(file);
  ASSERT_TRUE(lock_by_hand(vm, 101));
  EXPECT_EQ(fault_of([&] { lock.confirm_undisturbed(); }),
            "source: " + path_ + ": came into use while it was read: another process has it open for writing");
}

TEST_F(ImageLockTest, TakesAChangeOfOwnerOrModeForNoChange) {
  const FileDescriptor file = open();
  ImageLock lock = read_lock(file);
  ::usleep(20'000);
  ASSERT_EQ(::chmod(path_.c_str(), 0640), 0);
  EXPECT_EQ(fault_of([&] { lock.confirm_undisturbed(); }), "nothing");
}

}  // namespace
}  // namespace nasbackup
