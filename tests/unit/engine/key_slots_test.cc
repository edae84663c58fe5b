// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A change of the keys that breaks off at any of its calls: the image opens with every key that it had, and the header stays
// whole. The linker's --wrap (meson.build) leads pwrite64 and fsync through here. One thread.
#include <gtest/gtest.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "crypto/secret.h"
#include "engine/nasbackup.h"
#include "tests/unit/formats/luks_sample.h"

namespace {

struct Calls {
  int fail_at = -1;   ///< the call of that number fails, from 0
  bool half = false;  ///< a write that fails has written half
  int count = 0;
  std::string made;  ///< "w" and the offset, or "s", for each call
};
Calls calls;

}  // namespace

extern "C" {

ssize_t __real_pwrite64(int fd, const void* bytes, size_t size, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void* bytes, size_t size, off_t offset) {
  calls.made += "w" + std::to_string(offset) + " ";
  if (calls.count++ != calls.fail_at) return __real_pwrite64(fd, bytes, size, offset);
  if (calls.half) {
    EXPECT_EQ(__real_pwrite64(fd, bytes, size / 2, offset), static_cast<ssize_t>(size / 2));
  }
  errno = EIO;
  return -1;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd) {
  calls.made += "s ";
  if (calls.count++ != calls.fail_at) return __real_fsync(fd);
  errno = EIO;
  return -1;
}

}  // extern "C"

namespace nasbackup {
namespace {

std::shared_ptr<const Passphrase> pass(const std::string& text) { return Passphrase::from_bytes(text.data(), text.size()); }

class KeySlotChange : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "keys-" + testing::UnitTest::GetInstance()->current_test_info()->name();
    make();
  }
  void TearDown() override { std::remove(path_.c_str()); }

  void make() {
    const auto header = luks::sample_header("old", luks::sample_kdf()).bytes;
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(header.data()), static_cast<std::streamsize>(header.size()));
    calls = {};
  }

  KeyOptions options(const std::string& key) const {
    KeyOptions options;
    options.path = path_;
    options.passphrases = {pass(key)};
    options.new_passphrase = pass("new");
    options.pbkdf_iterations = 1000;
    options.allow_weak_pbkdf = true;
    return options;
  }

  bool opens(const std::string& key) const {
    std::ifstream file(path_, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    const auto bytes = bytes_of(content);
    luks::KeyRing ring({luks::passphrase(key)});
    return ring.unlock(luks::parse_header(bytes, bytes.size(), luks::Place::container), bytes).has_value();
  }

  std::string path_;
};

TEST_F(KeySlotChange, WritesMaterialThenSaltThenTheMarkWhenItAdds) {
  key_add(options("old"), {});
  EXPECT_EQ(calls.made, "w262144 w260 s w256 s ");
  EXPECT_TRUE(opens("old") && opens("new"));
}

TEST_F(KeySlotChange, WritesTheMarkBeforeItWipesWhenItRemoves) {
  key_add(options("old"), {});
  calls = {};
  key_remove(options("old"), {});
  EXPECT_EQ(calls.made, "w208 s w212 w4096 s ");
  EXPECT_TRUE(opens("new"));
  EXPECT_FALSE(opens("old"));
}

TEST_F(KeySlotChange, LeavesTheOldKeyWhereverAddingFails) {
  for (const bool half : {false, true})
    for (int k = 0; k < 5; ++k) {
      make();
      calls.fail_at = k;
      calls.half = half && k != 3;  // the mark itself is four bytes in one sector: all or nothing
      EXPECT_THROW(key_add(options("old"), {}), Error) << k;
      EXPECT_TRUE(opens("old")) << k;
    }
}

TEST_F(KeySlotChange, LeavesTheOtherKeyWhereverRemovingFails) {
  for (const bool half : {false, true})
    for (int k = 0; k < 5; ++k) {
      make();
      key_add(options("old"), {});
      calls = {};
      calls.fail_at = k;
      calls.half = half && k != 0;  // again not the mark
      EXPECT_THROW(key_remove(options("old"), {}), Error) << k;
      EXPECT_TRUE(opens("new")) << k;
      EXPECT_EQ(opens("old"), k == 0) << k;
    }
}

TEST_F(KeySlotChange, TellsAWrongKeyAndTheLastOne) {
  const auto outcome_of = [](auto&& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.outcome();
    }
    return Outcome::done;
  };
  EXPECT_EQ(outcome_of([&] { key_add(options("wrong"), {}); }), Outcome::wrong_key);
  EXPECT_EQ(outcome_of([&] { key_remove(options("wrong"), {}); }), Outcome::wrong_key);
  EXPECT_EQ(outcome_of([&] { key_remove(options("old"), {}); }), Outcome::usage);
  EXPECT_EQ(calls.made, "");
}

TEST_F(KeySlotChange, IsNotBegunOnceAskedToStop) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(key_add(options("old"), {stop.get_token(), nullptr, {}}), Error);
  EXPECT_EQ(calls.made, "");
}

TEST_F(KeySlotChange, RemovesEverySlotThatThePassphraseOpens) {
  key_add(options("old"), {});
  key_add(options("old"), {});
  const auto keys = key_remove(options("new"), {});
  EXPECT_EQ(keys.at(0).changed, (std::vector<unsigned>{1, 2}));
  EXPECT_TRUE(opens("old"));
  EXPECT_FALSE(opens("new"));
}

TEST_F(KeySlotChange, FillsEightSlotsAndNoMore) {
  for (int i = 1; i < 8; ++i) key_add(options("old"), {});
  EXPECT_THROW(key_add(options("old"), {}), Error);
  EXPECT_TRUE(opens("old"));
}

}  // namespace
}  // namespace nasbackup
