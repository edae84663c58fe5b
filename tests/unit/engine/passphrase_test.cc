// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A passphrase from each place it may come from, and what cannot be one.
#include "engine/passphrase.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "crypto/secret.h"
#include "engine/io/fault.h"

namespace nasbackup {
namespace {

using namespace std::string_literals;

std::string text_of(const std::shared_ptr<const Passphrase>& passphrase) {
  const auto bytes = passphrase->secret()->bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class APassphrase : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "passphrase-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string file(const std::string& content) const {
    const std::string path = dir_ + "/file";
    std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
    return path;
  }

  std::string dir_;
};

template <class Make>
void expect_refused(Make&& make, Outcome outcome, const std::string& says) {
  try {
    make();
    ADD_FAILURE() << "accepted; should say " << says;
  } catch (const Error& error) {
    EXPECT_EQ(error.outcome(), outcome) << error.what();
    EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    EXPECT_TRUE(std::string(error.what()).starts_with("passphrase: ")) << error.what();
  }
}

TEST_F(APassphrase, IsEveryByteOfItsFile) {
  for (const std::string& content :
       {"x"s, "with newline\n"s, "\xff\0\n"s, std::string(8u << 20, 'a'), std::string(4096, 'b'), std::string(4097, 'b')})
    EXPECT_TRUE(text_of(Passphrase::from_file(file(content))) == content) << content.size();
}

TEST_F(APassphrase, IsNoEmptyMissingHugeOrUnreadableFile) {
  expect_refused([&] { Passphrase::from_file(file("")); }, Outcome::usage, "is empty");
  expect_refused([&] { Passphrase::from_file(dir_ + "/none"); }, Outcome::usage, "No such file");
  expect_refused([&] { Passphrase::from_file(dir_); }, Outcome::usage, "is a directory");
  expect_refused([&] { Passphrase::from_file(file(std::string((8u << 20) + 1, 'a'))); }, Outcome::usage, "longer than 8 MiB");
  expect_refused([&] { Passphrase::from_file("/dev/zero"); }, Outcome::usage, "longer than 8 MiB");
  expect_refused([&] { Passphrase::from_file("/dev/null"); }, Outcome::usage, "is empty");
  expect_refused([&] { Passphrase::from_file("/proc/self/mem"); }, Outcome::usage, "read: ");
}

TEST_F(APassphrase, IsWaitedForInAFifo) {
  const std::string fifo = dir_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::jthread writer([&] {
    std::ofstream to(fifo);
    to << "first" << std::flush;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    to << " second";
  });
  EXPECT_EQ(text_of(Passphrase::from_file(fifo)), "first second");
}

TEST_F(APassphrase, IsNotWaitedForAfterAStop) {
  const std::string fifo = dir_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::stop_source stop;
  stop.request_stop();
  expect_refused([&] { Passphrase::from_file(fifo, stop.get_token()); }, Outcome::failed, "stopped");
  expect_refused([&] { Passphrase::from_command("sleep 1000", stop.get_token()); }, Outcome::failed, "stopped");
  expect_refused([&] { Passphrase::from_command("exec >&-; sleep 1000", stop.get_token()); }, Outcome::failed, "stopped");
}

TEST_F(APassphrase, IsWhatADescriptorGivesToItsEnd) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "secret\n", 7), 7);
  ::close(ends[1]);
  EXPECT_EQ(text_of(Passphrase::from_descriptor(ends[0])), "secret\n");
  expect_refused([&] { Passphrase::from_descriptor(ends[0]); }, Outcome::usage, "is empty");
  ::close(ends[0]);
  expect_refused([&] { Passphrase::from_descriptor(ends[0]); }, Outcome::usage, "Bad file descriptor");
}

TEST_F(APassphrase, IsWhatACommandPrints) {
  EXPECT_EQ(text_of(Passphrase::from_command("printf 'a b\\n'; echo not this >&2")), "a b\n");
  EXPECT_EQ(text_of(Passphrase::from_command("cat; echo x")), "x\n");  // nothing on its stdin
  expect_refused([] { Passphrase::from_command("echo secret; exit 3"); }, Outcome::failed, "the command: exit status 3");
  expect_refused([] { Passphrase::from_command("kill -9 $$"); }, Outcome::failed, "the command: signal 9");
  expect_refused([] { Passphrase::from_command("true"); }, Outcome::usage, "is empty");
  expect_refused([] { Passphrase::from_command("exec yes"); }, Outcome::usage, "longer than 8 MiB");
}

TEST_F(APassphrase, IsNeverPartOfAMessage) {
  try {
    Passphrase::from_command("echo hunter2; exit 1");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("hunter2"), std::string::npos) << error.what();
  }
}

bool may_encrypt(const std::string& bytes) {
  try {
    require_openable_by_qemu(*Passphrase::from_bytes(bytes.data(), bytes.size()));
    return true;
  } catch (const Fault& fault) {
    EXPECT_EQ(fault.kind(), FaultKind::usage);
    return false;
  }
}

TEST(APassphraseToWriteWith, IsUtf8WithoutNul) {
  EXPECT_TRUE(may_encrypt("plain\n"));
  EXPECT_TRUE(may_encrypt("\x01\x7f gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x91"));
  EXPECT_FALSE(may_encrypt("a\0b"s));
  EXPECT_FALSE(may_encrypt("ab\0"s));
  for (const std::string& bad : {"\xff"s, "\xc3"s, "a\xc3("s, "\xc0\x80"s, "\xed\xa0\x80"s, "\xf5\x80\x80\x80"s, "\x80"s})
    EXPECT_FALSE(may_encrypt(bad));
}

TEST(KeyStretching, IsAMillionIterationsAtLeast) {
  EXPECT_NO_THROW(require_strong(1'000'000, false));
  EXPECT_NO_THROW(require_strong(kPbkdfIterations, false));
  EXPECT_THROW(require_strong(999'999, false), Fault);
  EXPECT_NO_THROW(require_strong(1000, true));
  EXPECT_THROW(require_strong(999, true), Fault);
  EXPECT_THROW(require_strong((1u << 28) + 1, true), Fault);
}

}  // namespace
}  // namespace nasbackup
