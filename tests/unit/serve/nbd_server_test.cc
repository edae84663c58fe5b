// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The server with sources that fail, want whole blocks, or are slow, and with clients that do not fetch, do not speak or are
// too many. Libnbd is the client; where it is too well-behaved, a bare socket.
#include "engine/serve/nbd_server.h"

#include <gtest/gtest.h>
#include <libnbd.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <random>
#include <thread>

namespace nasbackup {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;
using namespace std::chrono_literals;

constexpr std::size_t kMiB = 1 << 20;

/// Random bytes with a run of zeroes. Reads of whole blocks only, and none of the bad block.
class AwkwardSource final : public BlockSource {
 public:
  static constexpr std::size_t kBlock = 4096, kSize = 24 * kMiB + 1000;
  static constexpr std::size_t kZeroes = 8 * kMiB, kBad = 22 * kMiB;

  AwkwardSource() : disk_(kSize) {
    std::mt19937_64 random(1);
    for (std::size_t at = 0; at + 8 <= kSize; at += 8) {
      const std::uint64_t word = at >= kZeroes && at < kZeroes + kMiB ? 0 : random();
      std::memcpy(disk_.data() + at, &word, 8);
    }
  }

  const Bytes& disk() const { return disk_; }
  SourceTraits traits() const noexcept override { return {kSize, kBlock, 4}; }
  asio::awaitable<std::vector<Extent>> extents(GuestOffset from, std::uint64_t) override {
    EXPECT_EQ(from.value % kBlock, 0u);
    if (from.value < kZeroes) co_return std::vector<Extent>{{{from, kZeroes - from.value}, ExtentKind::data}};
    if (from.value < kZeroes + kMiB) co_return std::vector<Extent>{{{from, kZeroes + kMiB - from.value}, ExtentKind::zero}};
    co_return std::vector<Extent>{{{from, kSize - from.value}, ExtentKind::data}};
  }
  asio::awaitable<void> read(GuestOffset from, std::span<std::byte> into) override {
    EXPECT_EQ(from.value % kBlock, 0u);
    EXPECT_EQ(into.size() % kBlock, 0u);
    if (from.value <= kBad && kBad < from.value + into.size())
      throw Fault(FaultKind::source, "disk: read at 23068672: bad block");
    const std::size_t inside = std::min(into.size(), kSize - from.value);
    std::memcpy(into.data(), disk_.data() + from.value, inside);
    std::memset(into.data() + inside, 0, into.size() - inside);
    co_return;
  }
  asio::awaitable<void> confirm() override { co_return; }

 private:
  Bytes disk_;
};

/// A libnbd handle.
class Client {
 public:
  enum class Replies { simple, structured };

  explicit Client(const std::string& uri, Replies replies = Replies::structured) : handle_(::nbd_create()) {
    ::nbd_set_request_structured_replies(handle_, replies == Replies::structured);
    ::nbd_set_strict_mode(handle_, 0);
    ::nbd_add_meta_context(handle_, LIBNBD_CONTEXT_BASE_ALLOCATION);
    connected_ = ::nbd_connect_uri(handle_, uri.c_str()) == 0;
  }
  ~Client() { ::nbd_close(handle_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  nbd_handle* handle() const { return handle_; }
  /// 0; or the errno that the server said, -1 when it said none.
  int read(std::uint64_t offset, std::size_t length, Bytes& into, std::uint32_t flags = 0) const {
    into.assign(length, std::byte{0xee});
    return ::nbd_pread(handle_, into.data(), length, offset, flags) == 0 ? 0 : failure();
  }

 private:
  static int failure() {
    const int error = ::nbd_get_errno();
    return error == 0 ? -1 : error;
  }

  nbd_handle* handle_;
  bool connected_;
};

class NbdServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "serve-XXXXXX").string();
    dir_ = ::mkdtemp(name.data());
  }
  void TearDown() override {
    stop();
    fs::remove_all(dir_);
  }

  void start(std::uint64_t memory = 64 * kMiB, std::chrono::seconds handshake_timeout = 10s) {
    ListeningSocket socket = ListeningSocket::at_path(dir_ / "socket");
    uri_ = socket.uri("");
    server_ = std::thread([this, memory, handshake_timeout, socket = std::move(socket)]() mutable {
      JobLoop job(2, stop_.get_token());
      Limiter limiter(job.executor(), job.stop(), {});
      const auto serve = [&]() -> asio::awaitable<void> {
        auto source = std::make_unique<AwkwardSource>();
        std::vector<NbdServer::Export> exports;
        exports.push_back({"disk", std::move(source)});
        NbdServer::Options options{memory, handshake_timeout, [this](const std::string& line) { note(line); }};
        NbdServer server(job, std::move(exports), limiter, std::move(options));
        co_await server.run(socket);
      };
      EXPECT_THROW(job.run(serve), Fault);  // being asked to stop
    });
  }
  void stop() {
    stop_.request_stop();
    if (server_.joinable()) server_.join();
  }

  void note(const std::string& line) {
    const std::lock_guard lock(mutex_);
    notes_.push_back(line);
  }

  void expect_same(const Bytes& read, std::uint64_t offset) const {
    ASSERT_LE(offset + read.size(), source_.disk().size());
    EXPECT_EQ(std::memcmp(read.data(), source_.disk().data() + offset, read.size()), 0) << read.size() << " at " << offset;
  }

  /// A connection that says nothing by itself.
  FileDescriptor bare() const {
    FileDescriptor client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (dir_ / "socket").c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return client;
  }

  const AwkwardSource source_;
  fs::path dir_;
  std::string uri_;
  std::stop_source stop_;
  std::thread server_;
  std::mutex mutex_;
  std::vector<std::string> notes_;
};

TEST_F(NbdServerTest, ReadsAnyRangeOfASourceThatReadsWholeBlocks) {
  start();
  std::mt19937 random(2);
  for (const auto replies : {Client::Replies::simple, Client::Replies::structured}) {
    const Client client(uri_, replies);
    ASSERT_TRUE(client.connected());
    Bytes read;
    for (int i = 0; i < 300; ++i) {
      const std::uint64_t offset = random() % (AwkwardSource::kBad - 1);
      const std::uint64_t most = i % 20 == 0 ? 9 * kMiB : 10000;
      const std::size_t length = 1 + random() % std::min(most, AwkwardSource::kBad - offset);
      ASSERT_EQ(client.read(offset, length, read), 0);
      expect_same(read, offset);
    }
    const std::uint64_t tail = AwkwardSource::kBad + AwkwardSource::kBlock;
    ASSERT_EQ(client.read(tail, AwkwardSource::kSize - tail, read), 0);
    expect_same(read, tail);
  }
}

TEST_F(NbdServerTest, ReadsAsMuchAsAClientMayAskForWithLittleMemory) {
  start(NbdServer::kLeastMemory);
  for (const auto replies : {Client::Replies::simple, Client::Replies::structured}) {
    const Client client(uri_, replies);
    Bytes read;
    ASSERT_EQ(client.read(1, 21 * kMiB, read), 0);
    expect_same(read, 1);
  }
}

TEST_F(NbdServerTest, TellsOfAReadThatFailsAndGoesOn) {
  start();
  for (const auto replies : {Client::Replies::simple, Client::Replies::structured}) {
    const Client client(uri_, replies);
    Bytes read;
    EXPECT_EQ(client.read(AwkwardSource::kBad + 5, 1, read), EIO);
    EXPECT_EQ(client.read(0, 4096, read), 0);
    expect_same(read, 0);
  }
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(notes_, (std::vector<std::string>(2, "warning: disk: read at 23068672: bad block")));
}

TEST_F(NbdServerTest, TellsOfAReadThatFailsAfterItsFirstPiece) {
  start(NbdServer::kLeastMemory);
  const std::uint64_t from = AwkwardSource::kBad - 2 * kMiB;
  Bytes read;
  const Client structured(uri_);
  EXPECT_EQ(structured.read(from, 3 * kMiB, read), EIO);
  EXPECT_EQ(structured.read(from, 4096, read), 0);
  // A simple reply can say it in one way only.
  const Client simple(uri_, Client::Replies::simple);
  EXPECT_NE(simple.read(from, 3 * kMiB, read), 0);
  EXPECT_TRUE(::nbd_aio_is_dead(simple.handle()) == 1 || ::nbd_aio_is_closed(simple.handle()) == 1);
  const Client again(uri_, Client::Replies::simple);
  EXPECT_EQ(again.read(from, 4096, read), 0);
}

TEST_F(NbdServerTest, SendsZeroesAsAHole) {
  start();
  const Client client(uri_);
  Bytes read(3 * AwkwardSource::kBlock);
  std::vector<std::pair<std::uint64_t, unsigned>> chunks;
  const auto on_chunk = [](void* found, const void*, std::size_t, std::uint64_t offset, unsigned status, int*) {
    static_cast<std::vector<std::pair<std::uint64_t, unsigned>>*>(found)->emplace_back(offset, status);
    return 0;
  };
  const nbd_chunk_callback callback{on_chunk, &chunks, nullptr};
  const std::uint64_t zero = AwkwardSource::kZeroes + 77, mixed = AwkwardSource::kZeroes - 16;
  ASSERT_EQ(::nbd_pread_structured(client.handle(), read.data(), read.size(), zero, callback, 0), 0);
  ASSERT_EQ(::nbd_pread_structured(client.handle(), read.data(), read.size(), mixed, callback, LIBNBD_CMD_FLAG_DF), 0);
  EXPECT_EQ(chunks, (std::vector<std::pair<std::uint64_t, unsigned>>{{zero, LIBNBD_READ_HOLE}, {mixed, LIBNBD_READ_DATA}}));
  expect_same(read, mixed);
}

TEST_F(NbdServerTest, TellsBlockStatusFromAnyOffset) {
  start();
  const Client client(uri_);
  std::vector<std::uint32_t> told;
  const auto on_extents = [](void* found, const char*, std::uint64_t, std::uint32_t* entries, std::size_t count, int*) {
    static_cast<std::vector<std::uint32_t>*>(found)->assign(entries, entries + count);
    return 0;
  };
  const nbd_extent_callback callback{on_extents, &told, nullptr};
  const std::uint64_t from = AwkwardSource::kZeroes - 5;
  ASSERT_EQ(::nbd_block_status(client.handle(), 2 * kMiB, from, callback, 0), 0);
  EXPECT_EQ(told, (std::vector<std::uint32_t>{5, 0, kMiB, 3, static_cast<std::uint32_t>(kMiB - 5), 0}));
  ASSERT_EQ(::nbd_block_status(client.handle(), 2 * kMiB, from + 6, callback, LIBNBD_CMD_FLAG_REQ_ONE), 0);
  EXPECT_EQ(told, (std::vector<std::uint32_t>{kMiB - 1, 3}));
}

TEST_F(NbdServerTest, EndsAHandshakeThatTakesTooLong) {
  start(64 * kMiB, 1s);
  const FileDescriptor silent = bare();
  char greeting[64];
  ASSERT_EQ(::recv(silent.get(), greeting, sizeof greeting, 0), 18);
  pollfd closed{silent.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&closed, 1, 20000), 1);
  EXPECT_EQ(::recv(silent.get(), greeting, sizeof greeting, 0), 0);
}

// Requests for much more than the server holds for one client, of which nothing is fetched; on each of a few connections.
TEST_F(NbdServerTest, KeepsNobodyWaitingForAClientThatDoesNotFetch) {
  start();
  std::vector<FileDescriptor> greedy;
  for (int i = 0; i < 4; ++i) {
    greedy.push_back(bare());
    Bytes said;
    append_wire(said, Wire32(nbd::kFixedNewstyle));
    append_wire(said, nbd::OptionHeader{nbd::kOptionMagic, static_cast<std::uint32_t>(nbd::OptionType::export_name), 0u});
    for (std::uint32_t r = 0; r < 200; ++r) append_wire(said, nbd::RequestHeader{.cookie = r, .offset = 0u, .length = 16u << 20});
    ASSERT_EQ(::send(greedy.back().get(), said.data(), said.size(), MSG_NOSIGNAL), static_cast<ssize_t>(said.size()));
  }
  const Client client(uri_);
  Bytes read;
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(client.read(0, kMiB, read), 0);
    expect_same(read, 0);
  }
}

TEST_F(NbdServerTest, LetsTheSeventeenthClientWaitUntilOneLeaves) {
  start();
  std::vector<std::unique_ptr<Client>> clients;
  for (unsigned i = 0; i < NbdServer::kMostClients; ++i) clients.push_back(std::make_unique<Client>(uri_));
  Bytes read;
  for (const auto& client : clients) ASSERT_EQ(client->read(0, 512, read), 0);
  std::atomic<bool> answered = false;
  std::thread late([&] {
    const Client client(uri_);
    Bytes mine;
    EXPECT_EQ(client.read(512, 512, mine), 0);
    answered = true;
  });
  ASSERT_EQ(clients.front()->read(0, kMiB, read), 0);
  std::this_thread::sleep_for(100ms);
  EXPECT_FALSE(answered);
  clients.pop_back();
  late.join();
  EXPECT_TRUE(answered);
}

TEST_F(NbdServerTest, SilentClientsTakeNobodysPlace) {
  start();
  std::vector<FileDescriptor> silent;
  for (unsigned i = 0; i < 3 * NbdServer::kMostClients; ++i) silent.push_back(bare());
  const Client client(uri_);
  Bytes read;
  EXPECT_EQ(client.read(0, 512, read), 0);
}

TEST_F(NbdServerTest, StopsWhileClientsReadAndWhileTheyDoNot) {
  start();
  const FileDescriptor silent = bare();
  const Client idle(uri_);
  std::vector<std::thread> readers;
  std::atomic<unsigned> begun = 0;
  for (int i = 0; i < 4; ++i)
    readers.emplace_back([&] {
      const Client client(uri_);
      Bytes read;
      while (client.read(0, 2 * kMiB, read) == 0) ++begun;
    });
  while (begun < 8) std::this_thread::sleep_for(1ms);
  stop();
  for (std::thread& reader : readers) reader.join();
  EXPECT_FALSE(fs::exists(dir_ / "socket"));
}

}  // namespace
}  // namespace nasbackup
