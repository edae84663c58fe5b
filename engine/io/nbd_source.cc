// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An NBD export as a source; see nbd_source.h.
#include "engine/io/nbd_source.h"

#include <libnbd.h>

#include <algorithm>
#include <bit>
#include <exception>
#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

namespace nasbackup {

namespace {

/// Reads under way on one connection. QEMU reads no more than 16 requests from a socket; four large ones keep it busy.
constexpr unsigned kDepthPerConnection = 4;

// One question about so much of the disk. An answer that is finely broken up costs the server a look at each piece before we
// may read the first, so the question grows with the coarseness of the answers.
constexpr std::uint64_t kFirstQuestion = 16u << 20;
constexpr std::uint64_t kSmallestQuestion = 4u << 20;
constexpr std::uint64_t kLargestQuestion = (std::uint64_t{1} << 32) - (64u << 20);  // lengths have 32 bits, and stay aligned
constexpr std::uint64_t kAskAheadFrom = 1u << 30;                                   // from this length on, several at once
constexpr std::size_t kCoarse = 64;                                                 // extents in one answer
/// Where holes are smaller than the pieces that we store there is nothing to skip: this much is taken for data unasked.
constexpr std::uint64_t kTrustedStretch = 64u << 20;

void check_block_sizes(const NbdExport& described, const std::string& name) {
  if (!std::has_single_bit(described.minimum_block) || described.minimum_block > (64u << 10))
    throw Fault(FaultKind::source, name + ": minimum block size: " + std::to_string(described.minimum_block) +
                                       ", must be a power of two of at most 65536");
  if (described.maximum_block < described.minimum_block)
    throw Fault(FaultKind::source, name + ": maximum block size: " + std::to_string(described.maximum_block) +
                                       ", is below the minimum of " + std::to_string(described.minimum_block));
  if (described.size % described.minimum_block != 0)
    throw Fault(FaultKind::source, name + ": size of the export: " + std::to_string(described.size) +
                                       ", is not a multiple of its minimum block size " +
                                       std::to_string(described.minimum_block));
}

/// Walks the entries of one context. The server may answer about less or about more than was asked (NBD_CMD_BLOCK_STATUS): less
/// is a beginning, more is cut off. An answer about nothing would have us ask for ever.
class ContextWalk {
 public:
  ContextWalk(const std::vector<NbdExtent>& entries, const GuestRange& asked, std::uint64_t disk_size, const std::string& name)
      : entry_(entries.begin()), end_(entries.end()), at_(asked.start), asked_(asked), disk_size_(disk_size), name_(name) {
    if (entries.empty()) refuse("no extents in the answer");
    check();
  }

  bool over() const noexcept { return entry_ == end_ || at_ >= asked_.end(); }
  std::uint32_t flags() const noexcept { return entry_->flags; }
  /// Bytes of the entry that are left, within what was asked.
  std::uint64_t left() const noexcept { return std::min<std::uint64_t>(entry_->length - into_entry_, asked_.end() - at_); }
  void advance(std::uint64_t bytes) {
    at_ += bytes;
    into_entry_ += bytes;
    if (into_entry_ < entry_->length) return;
    into_entry_ = 0;
    ++entry_;
    if (!over()) check();
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Fault(FaultKind::source, name_ + ": block status at " + std::to_string(at_.value) + ": " + what);
  }
  void check() const {
    if (entry_->length == 0) refuse("extent of no length");
    if (entry_->length > disk_size_ - at_.value)
      refuse("extent of " + std::to_string(entry_->length) + " bytes goes past the end of the export of " +
             std::to_string(disk_size_));
  }

  std::vector<NbdExtent>::const_iterator entry_, end_;
  GuestOffset at_;
  std::uint64_t into_entry_ = 0;
  const GuestRange asked_;
  const std::uint64_t disk_size_;
  const std::string& name_;
};

/// A hole that does not promise to read as zero is data (protocol, "base:allocation"). Null: the server does not tell.
ExtentKind kind_of(const ContextWalk* allocation, const ContextWalk* bitmap) noexcept {
  constexpr std::uint32_t kDirty = 1;  // QEMU, docs/interop/nbd.rst, "qemu:dirty-bitmap"
  if (bitmap != nullptr && (bitmap->flags() & kDirty) == 0) return ExtentKind::parent;
  return allocation != nullptr && (allocation->flags() & LIBNBD_STATE_ZERO) != 0 ? ExtentKind::zero : ExtentKind::data;
}

void append(std::vector<Extent>& extents, GuestOffset at, std::uint64_t length, ExtentKind kind) {
  if (!extents.empty() && extents.back().kind == kind)
    extents.back().range.length += length;
  else
    extents.push_back({{at, length}, kind});
}

/// What changed and is zero is zero: a range that the guest trimmed. Up to where the contexts both tell.
std::vector<Extent> extents_of(const NbdStatus& status, const NbdExport& described, const GuestRange& asked,
                               const std::string& name) {
  std::optional<ContextWalk> allocation, bitmap;
  if (described.has_allocation) allocation.emplace(status.allocation, asked, described.size, name);
  if (described.has_bitmap) bitmap.emplace(status.bitmap, asked, described.size, name);
  std::vector<Extent> extents;
  GuestOffset at = asked.start;
  while ((!allocation || !allocation->over()) && (!bitmap || !bitmap->over())) {
    const std::uint64_t length = std::min(allocation ? allocation->left() : UINT64_MAX, bitmap ? bitmap->left() : UINT64_MAX);
    append(extents, at, length, kind_of(allocation ? &*allocation : nullptr, bitmap ? &*bitmap : nullptr));
    at += length;
    if (allocation) allocation->advance(length);
    if (bitmap) bitmap->advance(length);
  }
  return extents;
}

}  // namespace

NbdSource::NbdSource(asio::any_io_executor loop, StopSignal& stop, Options options)
    : loop_(std::move(loop)), stop_(stop), options_(std::move(options)), ask_length_(kFirstQuestion) {}

asio::awaitable<std::unique_ptr<NbdSource>> NbdSource::open(asio::any_io_executor loop, StopSignal& stop, Options options) {
  std::unique_ptr<NbdSource> source(new NbdSource(loop, stop, std::move(options)));
  co_await source->connect();
  co_return source;
}

asio::awaitable<void> NbdSource::connect() {
  const std::string name = location_for_people(options_.uri);
  export_ = co_await add_connection();
  check_block_sizes(export_, name);
  if (!options_.bitmap.empty() && !export_.has_bitmap)
    throw Fault(FaultKind::source, name + ": the export does not show " + options_.bitmap);
  const unsigned wanted = options_.connections != 0 ? options_.connections : kDefaultConnections;
  while (export_.multi_conn && connections_.size() < wanted) {
    const NbdExport again = co_await add_connection();
    if (again.size != export_.size)
      throw Fault(FaultKind::source, name + ": size of the export changed between connections: " + std::to_string(export_.size) +
                                         " and " + std::to_string(again.size));
  }
}

asio::awaitable<NbdExport> NbdSource::add_connection() {
  const NbdConnection::Options options{options_.uri,     options_.bitmap, FaultKind::source,
                                       options_.timeout, options_.job,    options_.lifeline};
  connections_.push_back(std::make_shared<NbdConnection>(loop_, stop_, options));
  co_return co_await connections_.back()->open();
}

SourceTraits NbdSource::traits() const noexcept {
  const auto connections = static_cast<unsigned>(connections_.size());
  return {export_.size, export_.minimum_block, connections * kDepthPerConnection, connections};
}

const std::shared_ptr<NbdConnection>& NbdSource::least_busy() noexcept {
  const auto busier = [](const auto& a, const auto& b) { return a->commands_under_way() < b->commands_under_way(); };
  return *std::min_element(connections_.begin(), connections_.end(), busier);
}

/// A block status that was asked for. Shared with the coroutine that waits for the answer, which may outlive the source.
struct NbdSource::Question {
  Question(asio::any_io_executor loop, GuestRange about, const NbdExport& of) : range(about), described(of), answered(loop) {}
  GuestRange range;
  NbdExport described;
  Wakeup answered;
  bool done = false;
  std::exception_ptr failure;
  std::vector<Extent> extents;
};

asio::awaitable<std::vector<Extent>> NbdSource::extents(GuestOffset from, std::uint64_t granularity) {
  const std::uint64_t left = export_.size - from.value;
  if (!export_.has_allocation && !export_.has_bitmap) co_return std::vector<Extent>{{{from, left}, ExtentKind::data}};
  if (from.value < trust_data_until_)
    co_return std::vector<Extent>{{{from, std::min(left, trust_data_until_ - from.value)}, ExtentKind::data}};
  ask_ahead(from);
  const std::shared_ptr<Question> question = questions_.front();
  while (!question->done) co_await question->answered.wait();
  questions_.pop_front();
  if (question->failure) std::rethrow_exception(question->failure);
  adapt(question->extents, granularity);
  co_return std::move(question->extents);
}

// A question about `from`, and where the disk is coarse one more for each connection: an empty disk is then no slower than the
// server can look. An answer may be shorter than its question, which leaves a gap to ask about.
void NbdSource::ask_ahead(GuestOffset from) {
  while (!questions_.empty() && questions_.front()->range.start < from) questions_.pop_front();
  const std::uint64_t gap = questions_.empty() ? export_.size - from.value : questions_.front()->range.start - from;
  if (gap > 0) ask(from, std::min(gap, ask_length_), true);
  const std::size_t ahead = ask_length_ < kAskAheadFrom ? 1 : connections_.size();
  while (questions_.size() < ahead && questions_.back()->range.end().value < export_.size) {
    const GuestOffset next = questions_.back()->range.end();
    ask(next, std::min(export_.size - next.value, ask_length_), false);
  }
}

void NbdSource::ask(GuestOffset from, std::uint64_t length, bool first) {
  const auto question = std::make_shared<Question>(loop_, GuestRange{from, length}, export_);
  questions_.insert(first ? questions_.begin() : questions_.end(), question);
  asio::co_spawn(loop_, answer(least_busy(), question), asio::detached);
}

asio::awaitable<void> NbdSource::answer(std::shared_ptr<NbdConnection> connection, std::shared_ptr<Question> question) {
  try {
    const NbdStatus status = co_await connection->block_status(question->range.start.value, question->range.length);
    question->extents = extents_of(status, question->described, question->range, connection->name());
  } catch (...) {
    question->failure = std::current_exception();
  }
  question->done = true;
  question->answered.notify_all();
}

void NbdSource::adapt(const std::vector<Extent>& answer, std::uint64_t granularity) noexcept {
  const std::uint64_t covered = answer.back().range.end() - answer.front().range.start;
  if (answer.size() <= kCoarse) {
    ask_length_ = std::min(ask_length_ * 4, kLargestQuestion);
    return;
  }
  ask_length_ = std::max(ask_length_ / 4, kSmallestQuestion);
  if (!export_.has_bitmap && covered / answer.size() < granularity / 2)
    trust_data_until_ = answer.back().range.end().value + kTrustedStretch;
}

asio::awaitable<void> NbdSource::read(GuestOffset from, std::span<std::byte> into) {
  const std::uint64_t inside = std::min<std::uint64_t>(into.size(), export_.size - std::min(export_.size, from.value));
  const std::shared_ptr<NbdConnection> connection = least_busy();
  for (std::uint64_t done = 0; done < inside;) {
    const std::uint64_t length = std::min(inside - done, round_down(export_.maximum_block, export_.minimum_block));
    co_await connection->read(from.value + done, into.subspan(done, length));
    done += length;
  }
  std::fill(into.begin() + static_cast<std::ptrdiff_t>(inside), into.end(), std::byte{0});
}

}  // namespace nasbackup
