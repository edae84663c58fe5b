// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rbd_image.h.
#include "engine/io/rbd_image.h"

#include <algorithm>
#include <array>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "engine/io/wakeup.h"

namespace nasbackup {

namespace {

/// More watchers or lockers than anybody has.
constexpr std::size_t kMostUsers = 1024;
/// One answer's ranges; what comes behind is called data.
constexpr std::size_t kMostRanges = 1u << 17;
/// How librbd calls the lock that it takes by itself (librbd/ManagedLock.cc, WATCHER_LOCK_COOKIE_PREFIX).
constexpr std::string_view kManagedLock = "auto ";

/// Strings that lie behind each other, each with its NUL.
std::vector<std::string> strings_of(std::span<const char> packed) {
  std::vector<std::string> strings;
  for (auto at = packed.begin(); at != packed.end();) {
    const auto end = std::find(at, packed.end(), '\0');
    strings.emplace_back(at, end);
    at = end == packed.end() ? end : end + 1;
  }
  return strings;
}

/// What a diff iteration has told of.
struct Collected {
  const std::stop_token& stop;
  std::vector<GuestRange> ranges;
};

int collect(std::uint64_t offset, std::size_t length, int exists, void* user) noexcept {
  auto& found = *static_cast<Collected*>(user);
  if (found.stop.stop_requested()) return -ECANCELED;
  if (exists == 0 || length == 0) return 0;
  std::vector<GuestRange>& ranges = found.ranges;
  if (!ranges.empty() && ranges.back().end().value == offset)
    ranges.back().length += length;
  else if (ranges.size() < kMostRanges)
    ranges.push_back({GuestOffset(offset), length});
  else
    ranges.back().length = std::max(ranges.back().end().value, offset + length) - ranges.back().start.value;
  return 0;
}

/// Inside `about`, in order, joined. (Of striped and cloned images the library does not promise an order.)
std::vector<GuestRange> in_order(std::vector<GuestRange> ranges, GuestRange about) {
  std::sort(ranges.begin(), ranges.end(), [](const GuestRange& a, const GuestRange& b) { return a.start < b.start; });
  std::vector<GuestRange> joined;
  for (const GuestRange& range : ranges) {
    const GuestOffset from = std::max(range.start, joined.empty() ? about.start : joined.back().end());
    const GuestOffset to = std::min(range.end(), about.end());
    if (to <= from) continue;
    if (!joined.empty() && joined.back().end() == from)
      joined.back().length += to - from;
    else
      joined.push_back({from, to - from});
  }
  return joined;
}

std::string at(const char* what, std::uint64_t length, std::uint64_t offset) {
  return std::string(what) + " of " + std::to_string(length) + " bytes at " + std::to_string(offset);
}

}  // namespace

RbdImage::RbdImage(std::shared_ptr<RbdPool> pool, const std::string& image, const std::string& snapshot, Use use)
    : pool_(std::move(pool)), library_(pool_->library()) {
  const TargetCall mark(pool_->lifeline());
  const auto open = use == Use::reading ? library_.rbd_open_read_only : library_.rbd_open;
  pool_->check(open(pool_->context(), image.c_str(), &image_, snapshot.empty() ? nullptr : snapshot.c_str()), "open");
  try {
    read_facts();
  } catch (...) {
    library_.rbd_close(image_);
    throw;
  }
}

RbdImage::~RbdImage() {
  const TargetCall mark(pool_->lifeline());
  library_.rbd_close(image_);
}

void RbdImage::read_facts() {
  rbd_image_info_t info{};
  pool_->check(library_.rbd_stat(image_, &info, sizeof info), "size");
  std::uint64_t stripes = 1, features = 0;
  pool_->check(library_.rbd_get_stripe_count(image_, &stripes), "stripes");
  pool_->check(library_.rbd_get_features(image_, &features), "features");
  pool_->check(library_.rbd_get_overlap(image_, &facts_.overlap), "overlap");
  if (info.obj_size == 0 || info.obj_size > (1u << 30) || stripes == 0 || stripes > (1u << 20))
    throw Fault(FaultKind::source, pool_->name() + ": objects of " + std::to_string(info.obj_size) + " bytes, stripes of " +
                                       std::to_string(stripes) + ": make no sense");
  facts_.size = info.size;
  facts_.period = info.obj_size * stripes;
  facts_.keeps_object_map = (features & RBD_FEATURE_FAST_DIFF) != 0;
  std::array<char, 256> id{};
  if (library_.rbd_get_id(image_, id.data(), id.size() - 1) == 0) facts_.id = id.data();  // of the oldest format: none
  timespec modified{};
  if (library_.rbd_get_modify_timestamp(image_, &modified) == 0)
    facts_.modified_ns = static_cast<std::int64_t>(modified.tv_sec) * 1'000'000'000 + modified.tv_nsec;
}

// How many requests this takes nobody knows before, so it is not marked on the lifeline: each has the cluster's time-out.
std::vector<GuestRange> RbdImage::data_ranges(GuestRange about, const std::stop_token& stop) const {
  Collected found{stop, {}};
  const auto whole_objects = static_cast<std::uint8_t>(facts_.keeps_object_map ? 1 : 0);
  const int result =
      library_.rbd_diff_iterate2(image_, nullptr, about.start.value, about.length, 1, whole_objects, collect, &found);
  if (stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped");
  pool_->check(result, at("look for data in a range", about.length, about.start.value));
  return in_order(std::move(found.ranges), about);
}

std::string RbdImage::other_user() const {
  const TargetCall mark(pool_->lifeline());
  std::string watcher = other_watcher();
  return watcher.empty() ? other_locker() : watcher;
}

std::string RbdImage::other_watcher() const {
  std::vector<rbd_image_watcher_t> watchers(8);
  std::size_t count = watchers.size();
  int result = library_.rbd_watchers_list(image_, watchers.data(), &count);
  while (result == -ERANGE && watchers.size() < kMostUsers) {
    watchers.resize(2 * std::max(count, watchers.size()));
    count = watchers.size();
    result = library_.rbd_watchers_list(image_, watchers.data(), &count);
  }
  pool_->check(result, "watchers");
  std::string other;
  for (const rbd_image_watcher_t& watcher : std::span(watchers).first(count))
    if (static_cast<std::uint64_t>(watcher.id) != pool_->client())
      other = "client." + std::to_string(watcher.id) + " at " + watcher.addr + " has it open";
  library_.rbd_watchers_list_cleanup(watchers.data(), count);
  return other;
}

std::string RbdImage::other_locker() const {
  constexpr std::size_t kRoom = 256u << 10;
  int exclusive = 0;
  std::vector<char> tag(kRoom), clients(kRoom), cookies(kRoom), addresses(kRoom);
  std::size_t tag_size = kRoom, clients_size = kRoom, cookies_size = kRoom, addresses_size = kRoom;
  const ssize_t count = library_.rbd_list_lockers(image_, &exclusive, tag.data(), &tag_size, clients.data(), &clients_size,
                                                  cookies.data(), &cookies_size, addresses.data(), &addresses_size);
  pool_->check(count, "locks");
  if (count == 0) return {};
  const std::string mine = "client." + std::to_string(pool_->client());
  const auto owners = strings_of(std::span(clients).first(std::min(clients_size, kRoom)));
  const auto names = strings_of(std::span(cookies).first(std::min(cookies_size, kRoom)));
  for (std::size_t i = 0; i < std::min(owners.size(), names.size()); ++i)
    if (owners[i] != mine && !names[i].starts_with(kManagedLock)) return owners[i] + " holds the lock \"" + names[i] + "\"";
  return {};
}

/// What was begun: lives in the frame of the coroutine that waits for it.
struct RbdImage::Command {
  Command(asio::any_io_executor executor, const RbdLibrary& functions)
      : library(functions), loop(executor), completed(executor) {}
  const RbdLibrary& library;
  asio::any_io_executor loop;
  Wakeup completed;
  bool done = false;
  std::int64_t result = 0;
};

asio::awaitable<void> RbdImage::read(std::uint64_t offset, std::span<std::byte> into) {
  const auto bytes = reinterpret_cast<char*>(into.data());
  std::function<int(void*)> begin = [&](void* completion) {
    return library_.rbd_aio_read(image_, offset, into.size(), bytes, completion);
  };
  const std::int64_t result = co_await run(std::move(begin));
  if (result < 0) pool_->fail(result, at("read", into.size(), offset));
  if (static_cast<std::uint64_t>(result) != into.size())
    throw Fault(FaultKind::source,
                pool_->name() + ": " + at("read", into.size(), offset) + ": only " + std::to_string(result) + " came");
}

asio::awaitable<void> RbdImage::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  const auto from = reinterpret_cast<const char*>(bytes.data());
  std::function<int(void*)> begin = [&](void* completion) {
    return library_.rbd_aio_write(image_, offset, bytes.size(), from, completion);
  };
  const std::int64_t result = co_await run(std::move(begin));
  if (result < 0) pool_->fail(result, at("write", bytes.size(), offset));
}

asio::awaitable<void> RbdImage::zero(std::uint64_t offset, std::uint64_t length) {
  std::function<int(void*)> begin = [&](void* completion) {
    return library_.rbd_aio_write_zeroes(image_, offset, length, completion, 0, 0);
  };
  const std::int64_t result = co_await run(std::move(begin));
  if (result < 0) pool_->fail(result, at("zeroing", length, offset));
}

asio::awaitable<void> RbdImage::flush() {
  std::function<int(void*)> begin = [&](void* completion) { return library_.rbd_aio_flush(image_, completion); };
  const std::int64_t result = co_await run(std::move(begin));
  if (result < 0) pool_->fail(result, "flush");
}

asio::awaitable<std::int64_t> RbdImage::run(std::function<int(void* completion)> begin) {
  const TargetCall mark(pool_->lifeline());
  const asio::any_io_executor loop = co_await asio::this_coro::executor;
  Command command(loop, library_);
  rbd_completion_t completion = nullptr;
  pool_->check(library_.rbd_aio_create_completion(&command, on_complete, &completion), "request");
  const int refused = begin(completion);
  if (refused < 0) {  // nothing was begun, and nobody will call back
    library_.rbd_aio_release(completion);
    co_return refused;
  }
  while (!command.done) co_await command.completed.wait();
  co_return command.result;
}

// On a thread of the library. Once the loop has been told, the command may be gone.
void RbdImage::on_complete(void* completion, void* user) noexcept {
  auto& command = *static_cast<Command*>(user);
  command.result = command.library.rbd_aio_get_return_value(completion);
  command.library.rbd_aio_release(completion);
  const asio::any_io_executor loop = command.loop;
  asio::post(loop, [&command] {
    command.done = true;
    command.completed.notify_all();
  });
}

}  // namespace nasbackup
