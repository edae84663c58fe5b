// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A place belongs to a process, so each of these has one of its own.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "engine/nasbackup.h"

namespace nasbackup {
namespace {

class Directory {
 public:
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_; }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
  }

 private:
  std::string path_ = [] {
    std::string path = testing::TempDir() + "host_queue.XXXXXX";
    return std::string(::mkdtemp(path.data()));
  }();
};

/// A process that stands in line until it is ended; with a child that lives on, as a worker does that hangs.
class Standing {
 public:
  explicit Standing(const std::string& directory) {
    int said[2];
    if (::pipe(said) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) stand(directory, said[1]);
    ::close(said[1]);
    if (::read(said[0], &child_, sizeof child_) != sizeof child_) throw std::runtime_error("it does not stand in line");
    ::close(said[0]);
  }
  ~Standing() {
    kill();
    ::kill(child_, SIGKILL);
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  [[noreturn]] static void stand(const std::string& directory, int said) {
    const HostQueue place(directory);
    const pid_t child = ::fork();
    if (child != 0 && ::write(said, &child, sizeof child) != sizeof child) ::_exit(1);
    ::close(said);
    for (;;) ::pause();
  }

  pid_t pid_ = 0, child_ = 0;
};

TEST(HostQueue, APlaceIsBehindAllThatCameBefore) {
  const Directory directory;
  const Standing first(directory.path()), second(directory.path());
  const HostQueue third(directory.path());
  EXPECT_EQ(third.before(), 2u);
  const Standing fourth(directory.path());
  EXPECT_EQ(third.before(), 2u);
}

TEST(HostQueue, ThePlaceOfAProcessThatWasKilledIsFreeAtOnceWhateverItsChildrenDo) {
  const Directory directory;
  Standing first(directory.path()), second(directory.path());
  const HostQueue third(directory.path());
  first.kill();
  EXPECT_EQ(third.before(), 1u);
  second.kill();
  EXPECT_EQ(third.before(), 0u);
}

TEST(HostQueue, NothingStaysOfThoseWhoAreGone) {
  const Directory directory;
  {
    Standing first(directory.path()), second(directory.path());
    first.kill();
    const HostQueue third(directory.path());
    EXPECT_EQ(directory.files(), 2u);
    EXPECT_EQ(third.before(), 1u);
    second.kill();
  }
  { const HostQueue last(directory.path()); }
  EXPECT_EQ(directory.files(), 0u);
}

}  // namespace
}  // namespace nasbackup
