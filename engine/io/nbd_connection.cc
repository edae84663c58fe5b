// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One NBD connection; see nbd_connection.h.
#include "engine/io/nbd_connection.h"

#include <libnbd.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/io/lifeline_state.h"

namespace nasbackup {

namespace {

/// More entries than this in one answer are no use to us and would only cost memory (QEMU sends at most 128 Ki).
constexpr std::size_t kMaxExtents = 1u << 17;

/// Libnbd's words without the names of its functions in front.
std::string last_error() {
  const char* text = nbd_get_error();
  std::string words = text != nullptr ? text : "unknown error";
  while (words.starts_with("nbd_") && words.find(": ") != std::string::npos) words.erase(0, words.find(": ") + 2);
  return words;
}

/// Do the chunks (offset, length) make up exactly the range (offset, length)?
bool covers(std::vector<std::pair<std::uint64_t, std::uint64_t>>& chunks, std::pair<std::uint64_t, std::uint64_t> range) {
  std::sort(chunks.begin(), chunks.end());
  std::uint64_t at = range.first;
  for (const auto& [offset, length] : chunks) {
    if (offset != at) return false;
    at += length;
  }
  return at == range.first + range.second;
}

}  // namespace

/// A command under way: lives in the frame of the coroutine that waits for it. libnbd's callbacks fill it in.
struct NbdConnection::Command {
  explicit Command(NbdConnection& owner) : connection(owner), completed(owner.loop_) {}
  NbdConnection& connection;
  Wakeup completed;
  bool done = false;
  int error = 0;
  NbdStatus status;
  bool told_twice = false;                                       // more than one answer to one question in one context
  std::vector<std::pair<std::uint64_t, std::uint64_t>> arrived;  // offset and length of each chunk of a read
  std::uint64_t asked_at = 0;
};

NbdConnection::NbdConnection(asio::any_io_executor loop, StopSignal& stop, Options options)
    : loop_(loop),
      options_(std::move(options)),
      nbd_(nbd_create()),
      state_changed_(loop),
      death_kind_(options_.fault),
      watchdog_(loop),
      stop_(stop),
      on_stop_(stop, [this] { abort(FaultKind::interrupted, "stopped"); }) {
  if (nbd_ == nullptr) throw Fault(options_.fault, name() + ": libnbd: " + last_error());
  nbd_set_pread_initialize(nbd_, false);  // the buffer is filled or the command fails: no need to clear it first
}

NbdConnection::~NbdConnection() {
  watchdog_.cancel();
  if (nbd_aio_is_ready(nbd_) == 1) nbd_aio_disconnect(nbd_, 0);  // a farewell, as the protocol wishes; nobody waits for it
  drop_descriptor();
  nbd_close(nbd_);
}

asio::awaitable<NbdExport> NbdConnection::open() {
  stop_.throw_if_stopped();
  last_activity_ns_ = monotonic_ns();
  watch();
  for (const std::string& context : {std::string(LIBNBD_CONTEXT_BASE_ALLOCATION), options_.bitmap})
    if (!context.empty() && nbd_add_meta_context(nbd_, context.c_str()) == -1)
      throw Fault(options_.fault, name() + ": " + last_error());
  if (nbd_aio_connect_uri(nbd_, options_.uri.c_str()) == -1) throw Fault(options_.fault, name() + ": " + last_error());
  ++under_way_;
  follow();
  while (!is_over() && nbd_aio_is_ready(nbd_) != 1) {
    co_await state_changed_.wait();
    follow();
  }
  --under_way_;
  if (is_over()) throw Fault(death_kind_, name() + ": " + (death_.empty() ? "connection closed" : death_));
  co_return describe();
}

NbdExport NbdConnection::describe() {
  NbdExport described;
  const std::int64_t size = nbd_get_size(nbd_);
  if (size < 0) throw Fault(options_.fault, name() + ": size of the export: " + last_error());
  described.size = static_cast<std::uint64_t>(size);
  const auto block = [&](int which, std::uint64_t otherwise) {
    const std::int64_t bytes = nbd_get_block_size(nbd_, which);
    return bytes > 0 ? static_cast<std::uint64_t>(bytes) : otherwise;
  };
  described.minimum_block = block(LIBNBD_SIZE_MINIMUM, 1);
  described.maximum_block = std::min<std::uint64_t>(block(LIBNBD_SIZE_MAXIMUM, 32u << 20), 32u << 20);
  described.multi_conn = nbd_can_multi_conn(nbd_) == 1;
  described.read_only = nbd_is_read_only(nbd_) == 1;
  described.can_zero = nbd_can_zero(nbd_) == 1;
  described.can_flush = nbd_can_flush(nbd_) == 1;
  described.has_allocation = nbd_can_meta_context(nbd_, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  described.has_bitmap = !options_.bitmap.empty() && nbd_can_meta_context(nbd_, options_.bitmap.c_str()) == 1;
  return described;
}

asio::awaitable<void> NbdConnection::read(std::uint64_t offset, std::span<std::byte> into) {
  Command command(*this);
  const std::function<std::int64_t()> issue = [&] {
    const nbd_chunk_callback chunk{on_chunk, &command, nullptr};
    const nbd_completion_callback done{on_complete, &command, nullptr};
    return nbd_aio_pread_structured(nbd_, into.data(), into.size(), offset, chunk, done, 0);
  };
  co_await run(command, issue);
  const auto what = [&] { return "read of " + std::to_string(into.size()) + " bytes at " + std::to_string(offset); };
  if (command.error != 0) fail(what(), command.error);
  if (!covers(command.arrived, {offset, into.size()}))
    throw Fault(options_.fault, name() + ": " + what() + ": the answer has gaps or overlaps");
}

asio::awaitable<void> NbdConnection::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  Command command(*this);
  const std::function<std::int64_t()> issue = [&] {
    const nbd_completion_callback done{on_complete, &command, nullptr};
    return nbd_aio_pwrite(nbd_, bytes.data(), bytes.size(), offset, done, 0);
  };
  co_await run(command, issue);
  if (command.error != 0) fail("write of " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset), command.error);
}

asio::awaitable<void> NbdConnection::zero(std::uint64_t offset, std::uint64_t length) {
  Command command(*this);
  const std::function<std::int64_t()> issue = [&] {
    const nbd_completion_callback done{on_complete, &command, nullptr};
    return nbd_aio_zero(nbd_, length, offset, done, 0);
  };
  co_await run(command, issue);
  if (command.error != 0) fail("zeroing of " + std::to_string(length) + " bytes at " + std::to_string(offset), command.error);
}

asio::awaitable<void> NbdConnection::flush() {
  Command command(*this);
  const std::function<std::int64_t()> issue = [&] {
    const nbd_completion_callback done{on_complete, &command, nullptr};
    return nbd_aio_flush(nbd_, done, 0);
  };
  co_await run(command, issue);
  if (command.error != 0) fail("flush", command.error);
}

asio::awaitable<NbdStatus> NbdConnection::block_status(std::uint64_t offset, std::uint64_t length) {
  Command command(*this);
  command.asked_at = offset;
  const std::function<std::int64_t()> issue = [&] {
    const nbd_extent_callback extents{on_extents, &command, nullptr};
    const nbd_completion_callback done{on_complete, &command, nullptr};
    return nbd_aio_block_status(nbd_, length, offset, extents, done, 0);
  };
  co_await run(command, issue);
  if (command.error != 0) fail("block status at " + std::to_string(offset), command.error);
  if (command.told_twice)
    throw Fault(options_.fault, name() + ": block status at " + std::to_string(offset) + ": more than one answer");
  co_return std::move(command.status);
}

asio::awaitable<void> NbdConnection::run(Command& command, const std::function<std::int64_t()>& issue) {
  if (under_way_ == 0) last_activity_ns_ = monotonic_ns();
  // Refused at once: libnbd will not call back, so there is nothing to wait for.
  if (issue() == -1) {
    if (!is_over()) throw Fault(options_.fault, name() + ": " + last_error());
    command.error = ENOTCONN;
    co_return;
  }
  ++under_way_;
  follow();
  while (!command.done) co_await command.completed.wait();
  --under_way_;
}

// A structured answer comes in chunks, and libnbd (1.14 to 1.22) does not look whether they add up: what no chunk covers would be
// whatever the buffer held before.
int NbdConnection::on_chunk(void* user, const void*, std::size_t count, std::uint64_t offset, unsigned status, int*) noexcept {
  auto& command = *static_cast<Command*>(user);
  if (status == LIBNBD_READ_DATA || status == LIBNBD_READ_HOLE) command.arrived.emplace_back(offset, count);
  return 0;
}

// Libnbd holds its lock while it calls back: record, and nothing else (STYLE.md, trap 5). The return value 1 retires the command.
int NbdConnection::on_complete(void* user, int* error) noexcept {
  auto& command = *static_cast<Command*>(user);
  command.done = true;
  command.error = *error;
  command.connection.completed_.push_back(&command);
  return 1;
}

int NbdConnection::on_extents(void* user, const char* context, std::uint64_t offset, std::uint32_t* entries, std::size_t count,
                              int* error) noexcept {
  auto& command = *static_cast<Command*>(user);
  if (*error != 0) return 0;
  const bool allocation = std::strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0;
  if (!allocation && command.connection.options_.bitmap != context) return 0;
  std::vector<NbdExtent>& extents = allocation ? command.status.allocation : command.status.bitmap;
  command.told_twice = command.told_twice || !extents.empty() || offset != command.asked_at;
  if (command.told_twice) return 0;
  const std::size_t pairs = std::min(count / 2, kMaxExtents);
  for (std::size_t i = 0; i < pairs; ++i) extents.push_back({entries[2 * i], entries[2 * i + 1]});
  return 0;
}

/// Waits for what libnbd waits for. To be called after every call that may have moved its state machine.
void NbdConnection::follow() {
  wake_completed();
  if (is_over()) {
    drop_descriptor();
    state_changed_.notify_all();
    return;
  }
  const int fd = nbd_aio_get_fd(nbd_);
  if (fd != watched_fd_) {  // a host name with several addresses: another socket for each try
    drop_descriptor();
    watched_fd_ = fd;
    descriptor_.emplace(loop_, ::dup(fd));
  }
  const unsigned direction = nbd_aio_get_direction(nbd_);
  if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0 && !waiting_read_) wait_for(LIBNBD_AIO_DIRECTION_READ);
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 && !waiting_write_) wait_for(LIBNBD_AIO_DIRECTION_WRITE);
}

void NbdConnection::wait_for(int direction) {
  const bool reading = direction == LIBNBD_AIO_DIRECTION_READ;
  (reading ? waiting_read_ : waiting_write_) = true;
  const auto what = reading ? asio::posix::stream_descriptor::wait_read : asio::posix::stream_descriptor::wait_write;
  auto ready = [self = weak_from_this(), direction](const boost::system::error_code& cancelled) {
    const auto connection = self.lock();
    if (connection && !cancelled) connection->on_ready(direction);
  };
  descriptor_->async_wait(what, std::move(ready));
}

void NbdConnection::on_ready(int direction) {
  const bool reading = direction == LIBNBD_AIO_DIRECTION_READ;
  (reading ? waiting_read_ : waiting_write_) = false;
  const unsigned wanted = nbd_aio_get_direction(nbd_);
  const bool spurious = reading && !has_something_to_read();
  if ((wanted & static_cast<unsigned>(direction)) != 0 && !spurious) {
    last_activity_ns_ = monotonic_ns();
    const int result = reading ? nbd_aio_notify_read(nbd_) : nbd_aio_notify_write(nbd_);
    if (result == -1 && death_.empty()) death_ = last_error();
  }
  state_changed_.notify_all();
  follow();
}

// Told of an answer, libnbd (1.14) waits for that answer and sends nothing before it has come: for ever, when there is none and
// the server waits for the rest of a command. And Asio's waits may end although the look before has taken what there was.
bool NbdConnection::has_something_to_read() const noexcept {
  pollfd look{watched_fd_, POLLIN, 0};
  return ::poll(&look, 1, 0) > 0;
}

void NbdConnection::wake_completed() {
  for (Command* command : completed_) command->completed.notify_all();
  completed_.clear();
}

bool NbdConnection::is_over() const noexcept { return nbd_aio_is_dead(nbd_) == 1 || nbd_aio_is_closed(nbd_) == 1; }

void NbdConnection::drop_descriptor() noexcept {
  descriptor_.reset();  // waits on it end as cancelled
  watched_fd_ = -1;
  waiting_read_ = waiting_write_ = false;
}

// The socket's end makes libnbd complete everything that is under way, which is the only safe way to be rid of it early.
void NbdConnection::abort(FaultKind kind, const std::string& reason) noexcept {
  if (death_.empty()) {
    death_ = reason;
    death_kind_ = kind;
  }
  if (descriptor_) ::shutdown(descriptor_->native_handle(), SHUT_RDWR);
}

void NbdConnection::watch() {
  watchdog_.expires_after(std::chrono::milliseconds(250));
  auto look = [self = weak_from_this()](const boost::system::error_code& cancelled) {
    const auto connection = self.lock();
    if (cancelled || !connection) return;
    connection->look_for_stall();
    connection->watch();
  };
  watchdog_.async_wait(std::move(look));
}

void NbdConnection::look_for_stall() {
  const std::int64_t limit = std::chrono::nanoseconds(options_.timeout).count();
  if (under_way_ != 0 && monotonic_ns() - last_activity_ns_ > limit)
    abort(FaultKind::timed_out, "no answer for " + std::to_string(options_.timeout.count()) + " seconds");
}

void NbdConnection::fail(const std::string& what, int error) const {
  if (is_over() && !death_.empty()) throw Fault(death_kind_, name() + ": " + what + ": " + death_);
  if (options_.fault == FaultKind::source) throw_source_errno(error, name(), what);
  throw_target_errno(error, name(), what);
}

}  // namespace nasbackup
