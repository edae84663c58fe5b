// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What every source promises (block_source.h), asked of each implementation.
#include "engine/io/block_source.h"

#include <gtest/gtest.h>

#include <memory>

#include "engine/io/bounded_source.h"
#include "engine/io/image_chain.h"
#include "engine/io/image_source.h"
#include "engine/io/memory_source.h"
#include "engine/io/nbd_source.h"
#include "tests/unit/io/nodes.h"

namespace nasbackup {
namespace {

constexpr std::uint64_t kSize = (5u << 20) + 512;
constexpr std::uint64_t kGranularity = 64u << 10;

/// A source over one disk, and what must live as long.
struct Opened {
  std::unique_ptr<Nbdkit> server;
  std::unique_ptr<BlockSource> source;
};

std::unique_ptr<BlockSource> open_file_image(Loop& loop, const std::string& path, const std::string& format) {
  OpenedImage image = open_image({path, format}, nullptr);
  return std::make_unique<ImageSource>(loop.pool.get_executor(), std::move(image.layer), 4);
}

using Open = asio::awaitable<Opened> (*)(Loop&, const Folder&, const std::vector<std::byte>&);

asio::awaitable<Opened> open_memory(Loop& loop, const Folder&, const std::vector<std::byte>& disk) {
  Opened opened;
  opened.source = std::make_unique<MemorySource>(loop.context.get_executor(), disk, true, 4);
  co_return opened;
}

asio::awaitable<Opened> open_file(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk) {
  write_sparse(folder.file("disk"), disk);
  Opened opened;
  opened.source = open_file_image(loop, folder.file("disk"), "raw");
  co_return opened;
}

/// What lies behind the disk is none of it.
asio::awaitable<Opened> open_bounded(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk) {
  std::vector<std::byte> longer = disk;
  longer.resize(disk.size() + 200'000, std::byte{9});
  write_sparse(folder.file("disk"), longer);
  Opened opened;
  opened.source = std::make_unique<BoundedSource>(open_file_image(loop, folder.file("disk"), "raw"), disk.size());
  co_return opened;
}

/// Written by qemu-img, whose words follow; "disk" is the raw file, "image" what they make.
asio::awaitable<Opened> open_made_by_qemu(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk,
                                          std::vector<std::string> commands) {
  write_sparse(folder.file("disk"), disk);
  for (const std::string& command : commands) {
    const std::string line = "cd '" + folder.file("") + "' && qemu-img " + command;
    EXPECT_EQ(std::system(line.c_str()), 0) << command;
  }
  Opened opened;
  opened.source = open_file_image(loop, folder.file("image"), "qcow2");
  co_return opened;
}

asio::awaitable<Opened> open_qcow2(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk) {
  return open_made_by_qemu(loop, folder, disk, {"convert -O qcow2 -o cluster_size=4k disk image"});
}

asio::awaitable<Opened> open_compressed(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk) {
  return open_made_by_qemu(loop, folder, disk, {"convert -c -O qcow2 disk image"});
}

asio::awaitable<Opened> open_extended(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk) {
  return open_made_by_qemu(loop, folder, disk, {"convert -O qcow2 -o extended_l2=on,cluster_size=128k disk image"});
}

/// Half of the data stands in the backing file, which is shorter.
asio::awaitable<Opened> open_overlay(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk) {
  return open_made_by_qemu(
      loop, folder, disk,
      {"dd -U -f raw -O qcow2 bs=1M count=2 if=disk of=base 2>/dev/null", "convert -O qcow2 -B base -F qcow2 disk image"});
}

asio::awaitable<Opened> open_served(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk,
                                    std::optional<JobSocket> job) {
  write_sparse(folder.file("disk"), disk);
  Opened opened;
  opened.server = std::make_unique<Nbdkit>(folder, folder.file("disk"));
  NbdSource::Options options;
  options.uri = opened.server->uri();
  options.job = std::move(job);
  opened.source = co_await NbdSource::open(loop.context.get_executor(), loop.stop, options);
  co_return opened;
}

asio::awaitable<Opened> open_nbd(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk) {
  return open_served(loop, folder, disk, std::nullopt);
}

/// As a backup job's export is: all of the handshake at once.
asio::awaitable<Opened> open_job(Loop& loop, const Folder& folder, const std::vector<std::byte>& disk) {
  return open_served(loop, folder, disk, JobSocket{folder.file("socket"), ""});
}

class EverySource : public testing::TestWithParam<std::pair<const char*, Open>> {
 protected:
  void with_source(const std::function<asio::awaitable<void>(BlockSource&)>& test) {
    auto main = [&]() -> asio::awaitable<void> {
      const Opened opened = co_await GetParam().second(loop_, folder_, disk_);
      co_await test(*opened.source);
    };
    loop_.run(main);
  }
  const std::vector<std::byte> disk_ = patchy_disk(kSize, 21);
  Folder folder_;
  Loop loop_;
};

TEST_P(EverySource, TellsItsSize) {
  with_source([&](BlockSource& source) -> asio::awaitable<void> {
    EXPECT_EQ(source.traits().size, kSize);
    EXPECT_GE(source.traits().depth, 1u);
    co_return;
  });
}

TEST_P(EverySource, CoversTheDiskWithExtentsWithoutGapsAndCallsNoDataZero) {
  with_source([&](BlockSource& source) -> asio::awaitable<void> {
    std::uint64_t at = 0;
    while (at < kSize) {
      const std::vector<Extent> extents = co_await source.extents(GuestOffset(at), kGranularity);
      EXPECT_FALSE(extents.empty());
      if (extents.empty()) co_return;
      for (const Extent& extent : extents) {
        EXPECT_EQ(extent.range.start.value, at);
        EXPECT_GT(extent.range.length, 0u);
        for (std::uint64_t i = 0; extent.kind == ExtentKind::zero && i < extent.range.length; ++i)
          if (disk_[at + i] != std::byte{0}) {
            ADD_FAILURE() << "data called zero at " << at + i;
            co_return;
          }
        at += extent.range.length;
      }
    }
    EXPECT_EQ(at, kSize);
  });
}

TEST_P(EverySource, ReadsWhatIsThereAndZeroesPastTheEnd) {
  with_source([&](BlockSource& source) -> asio::awaitable<void> {
    std::mt19937 random(4);
    for (int round = 0; round < 60; ++round) {
      const std::uint64_t from = random() % (kSize / 512) * 512;
      std::vector<std::byte> expected(512 + random() % 2000 * 512), got(expected.size(), std::byte{0xee});
      const auto inside = std::min<std::uint64_t>(expected.size(), kSize - from);
      std::copy_n(disk_.begin() + static_cast<std::ptrdiff_t>(from), inside, expected.begin());
      co_await source.read(GuestOffset(from), got);
      EXPECT_TRUE(got == expected) << from << " + " << expected.size();
    }
  });
}

TEST_P(EverySource, IsWhatItWasWhenNobodyTouchedIt) {
  with_source([&](BlockSource& source) -> asio::awaitable<void> { co_await source.confirm(); });
}

INSTANTIATE_TEST_SUITE_P(Sources, EverySource,
                         testing::Values(std::pair{"memory", Open{open_memory}}, std::pair{"file", Open{open_file}},
                                         std::pair{"bounded", Open{open_bounded}}, std::pair{"nbd", Open{open_nbd}},
                                         std::pair{"job", Open{open_job}}, std::pair{"qcow2", Open{open_qcow2}},
                                         std::pair{"compressed", Open{open_compressed}},
                                         std::pair{"extended", Open{open_extended}}, std::pair{"overlay", Open{open_overlay}}),
                         [](const auto& one) { return one.param.first; });

}  // namespace
}  // namespace nasbackup
