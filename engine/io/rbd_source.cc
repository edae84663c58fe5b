// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rbd_source.h.
#include "engine/io/rbd_source.h"

#include <algorithm>
#include <cstring>

#include "engine/io/on_thread.h"

namespace nasbackup {

namespace {

/// Reads under way, so that several disks of the cluster are busy; each of about an object, because what a request costs on its
/// way through the threads of both sides is more than its bytes do (docs/performance.md).
constexpr unsigned kDepth = 16;
constexpr std::uint64_t kItem = 4u << 20;

// So much is looked through for data at once. An object map is in memory; without one each object is asked for, ten at a time.
constexpr std::uint64_t kWithObjectMap = std::uint64_t{64} << 30;
constexpr std::uint64_t kWithoutObjectMap = std::uint64_t{4} << 30;
/// Each look at a clone looks through all of its parent too: that shall not be the larger part.
constexpr std::uint64_t kTimesOverlap = 4;
constexpr std::uint64_t kMostAtOnce = std::uint64_t{1} << 40;

std::vector<Extent> extents_of(GuestRange about, const std::vector<GuestRange>& data) {
  std::vector<Extent> extents;
  GuestOffset at = about.start;
  for (const GuestRange& range : data) {
    const GuestOffset from = std::max(range.start, at);
    if (range.end() <= from) continue;
    if (from > at) extents.push_back({{at, from - at}, ExtentKind::zero});
    extents.push_back({{from, range.end() - from}, ExtentKind::data});
    at = range.end();
  }
  if (at < about.end()) extents.push_back({{at, about.end() - at}, ExtentKind::zero});
  return extents;
}

}  // namespace

RbdSource::RbdSource(RbdThreads threads, const RbdLocation& location, const RbdAccess& access, bool shared)
    : threads_(threads),
      name_(location.image),
      watched_(!shared && location.snapshot.empty()),
      pool_(std::make_shared<RbdPool>(location, access, FaultKind::source)),
      image_(std::make_unique<RbdImage>(pool_, location.image, location.snapshot, RbdImage::Use::reading)) {
  if (!watched_) return;
  if (const std::string user = image_->other_user(); !user.empty())
    throw Fault(FaultKind::source, pool_->name() + ": in use: " + user);
}

RbdSource::~RbdSource() = default;

SourceTraits RbdSource::traits() const noexcept { return {image_->facts().size, 1, kDepth, 0, kItem}; }

std::uint64_t RbdSource::look_at_once() const noexcept {
  const RbdFacts& facts = image_->facts();
  if (facts.keeps_object_map) return kWithObjectMap;
  return std::clamp(kTimesOverlap * facts.overlap, kWithoutObjectMap, kMostAtOnce);
}

asio::awaitable<std::vector<Extent>> RbdSource::extents(GuestOffset from, std::uint64_t) {
  const RbdFacts& facts = image_->facts();
  const GuestOffset start(from.value - from.value % facts.period);
  const std::uint64_t length = std::min(round_up(look_at_once(), facts.period), facts.size - start.value);
  std::vector<GuestRange> data;
  auto look = [&] { data = image_->data_ranges({start, length}, threads_.stop.token()); };
  co_await on_thread(threads_.pool, look);
  co_return extents_of({from, start + length - from}, data);
}

asio::awaitable<void> RbdSource::read(GuestOffset from, std::span<std::byte> into) {
  const std::uint64_t size = image_->facts().size;
  const std::uint64_t inside = std::min<std::uint64_t>(into.size(), size - std::min(size, from.value));
  if (inside > 0) co_await image_->read(from.value, into.first(inside));
  std::memset(into.data() + inside, 0, into.size() - inside);
}

asio::awaitable<void> RbdSource::confirm() {
  if (!watched_) co_return;
  auto look = [&] { look_again(); };
  co_await on_thread(threads_.pool, look);
}

// Opened anew, because an open image keeps what it once read of its header.
void RbdSource::look_again() const {
  const RbdImage now(pool_, name_, "", RbdImage::Use::reading);
  if (const std::string user = now.other_user(); !user.empty())
    throw Fault(FaultKind::source, pool_->name() + ": came into use while it was read: " + user);
  const RbdFacts& before = image_->facts();
  if (now.facts().id != before.id || now.facts().size != before.size || now.facts().modified_ns != before.modified_ns)
    throw Fault(FaultKind::source, pool_->name() + ": changed while it was read: somebody has written to it, or replaced it");
}

}  // namespace nasbackup
