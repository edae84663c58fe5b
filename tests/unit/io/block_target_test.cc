// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What every target promises (block_target.h), asked of each implementation that keeps anything.
#include "engine/io/block_target.h"

#include <vector>
#include <gtest/gtest.h>

#include <memory>

#include "engine/io/file_target.h"
#include "engine/io/nbd_target.h"
#include "tests/unit/io/nodes.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kSize = 6u << 20;

/// A target, and the file in which its bytes can be seen.
struct Opened {
  std::unique_ptr<Nbdkit> server;
  std::unique_ptr<BlockTarget> target;
};
using Open = asio::awaitable<Opened> (*)(Loop&, const Folder&);

asio::awaitable<Opened> open_file(Loop&, const Folder& folder) {
  Opened opened;
  opened.target = FileTarget::create(folder.file("image"), nullptr);
  co_return opened;
}

asio::awaitable<Opened> open_nbd(Loop& loop, const Folder& folder) {
  std::ofstream(folder.file("image")).close();
  std::filesystem::resize_file(folder.file("image"), kSize);
  Opened opened;
  opened.server = std::make_unique<Nbdkit>(folder, folder.file("image"));
  opened.target =
      co_await NbdTarget::open(loop.context.get_executor(), loop.stop, opened.server->uri(), std::chrono::seconds(60), kSize);
  co_return opened;
}

class EveryTarget : public testing::TestWithParam<std::pair<const char*, Open>> {
 protected:
  void with_target(const std::function<asio::awaitable<void>(BlockTarget&)>& test) {
    auto main = [&]() -> asio::awaitable<void> {
      Opened opened = co_await GetParam().second(loop_, folder_);
      co_await test(*opened.target);
    };
    loop_.run(main);
  }
  Folder folder_;
  Loop loop_;
};

/// Aligned and odd pieces, joined and apart, and ranges of zeroes over what was written before.
TEST_P(EveryTarget, HoldsWhatWasAppliedOnceItIsClosed) {
  std::vector<std::byte> model(kSize);
  with_target([&](BlockTarget& target) -> asio::awaitable<void> {
    std::mt19937 random(8);
    for (int round = 0; round < 80; ++round) {
      WriteBatch batch;
      const std::uint64_t unit = round % 2 == 0 ? 4096 : 512;
      std::vector<std::byte> bytes((1 + random() % 40) * unit);
      for (auto& byte : bytes) byte = static_cast<std::byte>(random());
      const std::uint64_t at = random() % ((kSize - bytes.size()) / unit) * unit;
      const std::size_t half = bytes.size() / 2 / unit * unit;
      batch.add(HostOffset(at), std::span(bytes).first(half), Content::guest_data);
      std::vector<std::byte> rest(bytes.size() - half);
      std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(half), bytes.end(), rest.data());
      batch.add_table(HostOffset(at + half), std::move(rest));
      co_await target.apply(batch);
      std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<std::ptrdiff_t>(at));
      if (round % 10 != 9) continue;
      WriteBatch zeroes;
      const std::uint64_t from = random() % (kSize / 2 / 512) * 512, length = (1 + random() % 500) * 512;
      zeroes.add_zeroes(HostOffset(from), length);
      co_await target.apply(zeroes);
      std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(from), length, std::byte{0});
    }
    co_await target.flush();
    co_await target.close(kSize);
  });
  EXPECT_TRUE(read_file(folder_.file("image")) == model);
}

TEST_P(EveryTarget, IsAsLongAsItWasToldAtTheEnd) {
  with_target([&](BlockTarget& target) -> asio::awaitable<void> {
    WriteBatch batch;
    std::vector<std::byte> bytes(8192, std::byte{1});
    batch.add(HostOffset(0), bytes, Content::guest_data);
    co_await target.apply(batch);
    EXPECT_EQ(co_await target.close(kSize), kSize);
  });
  EXPECT_EQ(std::filesystem::file_size(folder_.file("image")), kSize);
}

INSTANTIATE_TEST_SUITE_P(Targets, EveryTarget,
                         testing::Values(std::pair{"file", Open{open_file}}, std::pair{"nbd", Open{open_nbd}}),
                         [](const auto& one) { return one.param.first; });

}  // namespace
}  // namespace nasbackup
