// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Socket files: whose may be replaced, and what is left.
#include "engine/serve/listening_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include "engine/io/fault.h"

namespace nasbackup {
namespace {

namespace fs = std::filesystem;

class ListeningSocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "listen-XXXXXX").string();
    dir_ = ::mkdtemp(name.data());
    path_ = dir_ / "socket";
  }
  void TearDown() override { fs::remove_all(dir_); }

  FaultKind refusal() const {
    try {
      ListeningSocket::at_path(path_);
    } catch (const Fault& fault) {
      EXPECT_NE(std::string(fault.what()).find(path_.string()), std::string::npos) << fault.what();
      return fault.kind();
    }
    ADD_FAILURE() << "it was not refused";
    return FaultKind::interrupted;
  }

  /// What a server leaves that is killed.
  void leave_dead_socket() const {
    const FileDescriptor dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(dead.get(), 1), 0);
  }

  fs::path dir_, path_;
};

TEST_F(ListeningSocketTest, IsTheOwnersAloneAndGoesAtTheEnd) {
  {
    const ListeningSocket socket = ListeningSocket::at_path(path_);
    EXPECT_TRUE(fs::is_socket(path_));
    EXPECT_EQ(fs::status(path_).permissions(), fs::perms(0600));
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);
  }
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(ListeningSocketTest, ReplacesThatOfADeadServer) {
  leave_dead_socket();
  ASSERT_TRUE(fs::is_socket(path_));
  { const ListeningSocket socket = ListeningSocket::at_path(path_); }
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(ListeningSocketTest, IsRefusedWhereALiveServerListens) {
  const ListeningSocket socket = ListeningSocket::at_path(path_);
  EXPECT_EQ(refusal(), FaultKind::locked);
  EXPECT_TRUE(fs::is_socket(path_));
}

TEST_F(ListeningSocketTest, IsRefusedWhereAnotherFileIs) {
  std::ofstream(path_) << "precious";
  EXPECT_EQ(refusal(), FaultKind::failed);
  EXPECT_EQ(fs::file_size(path_), 8u);
}

TEST_F(ListeningSocketTest, IsRefusedWhereThereIsNoDirectoryOrTheNameIsTooLong) {
  path_ = dir_ / "none" / "socket";
  EXPECT_EQ(refusal(), FaultKind::failed);
  path_ = dir_ / std::string(108, 'x');
  EXPECT_EQ(refusal(), FaultKind::usage);
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(ListeningSocketTest, LeavesWhatSomebodyElseHasPutInItsPlace) {
  std::optional<ListeningSocket> socket(ListeningSocket::at_path(path_));
  fs::remove(path_);
  std::ofstream(path_) << "theirs";
  socket.reset();
  EXPECT_TRUE(fs::is_regular_file(path_));
}

TEST_F(ListeningSocketTest, TakesTheLongestNameThatFits) {
  path_ = dir_ / std::string(107 - dir_.string().size() - 1, 'x');
  { const ListeningSocket socket = ListeningSocket::at_path(path_); }
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(ListeningSocketTest, HasAUriThatHoldsAnyName) {
  EXPECT_EQ(ListeningSocket::at_path(path_).uri("a/b c%\xc3\xa9"), "nbd+unix:///a%2Fb%20c%25%C3%A9?socket=" + path_.string());
}

TEST_F(ListeningSocketTest, FindsAFreePortAndRefusesOneInUse) {
  const ListeningSocket first = ListeningSocket::at_port(0);
  const std::string uri = first.uri("x");
  ASSERT_TRUE(uri.starts_with("nbd://127.0.0.1:")) << uri;
  const auto port = static_cast<std::uint16_t>(std::stoul(uri.substr(16)));
  ASSERT_NE(port, 0);
  EXPECT_THROW(ListeningSocket::at_port(port), Fault);
}

}  // namespace
}  // namespace nasbackup
