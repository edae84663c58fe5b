// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One NBD connection; see nbd_connection.h.
#include "engine/io/nbd_connection.h"

#include <fcntl.h>
#include <libnbd.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <boost/asio/use_awaitable.hpp>

#include "engine/io/file_descriptor.h"
#include "formats/format_error.h"

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

std::vector<std::string> contexts_of(const NbdConnection::Options& options) {
  std::vector<std::string> contexts{LIBNBD_CONTEXT_BASE_ALLOCATION};
  if (!options.bitmap.empty()) contexts.push_back(options.bitmap);
  return contexts;
}

void add_contexts(nbd_handle* nbd, const std::vector<std::string>& contexts, FaultKind fault, const std::string& name) {
  for (const std::string& context : contexts)
    if (nbd_add_meta_context(nbd, context.c_str()) == -1) throw Fault(fault, name + ": " + last_error());
}

nbd_handle* create_handle(FaultKind fault, const std::string& name) {
  nbd_handle* const nbd = nbd_create();
  if (nbd == nullptr) throw Fault(fault, name + ": libnbd: " + last_error());
  nbd_set_pread_initialize(nbd, false);  // the buffer is filled or the command fails: no need to clear it first
  return nbd;
}

/// For its lifetime nobody but a real-time process takes the processor from this thread; without the privilege nothing changes.
class Undisturbed {
 public:
  Undisturbed() noexcept : policy_(::sched_getscheduler(0)) {
    ::sched_getparam(0, &before_);
    const sched_param lowest{1};
    changed_ = policy_ >= 0 && ::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &lowest) == 0;
  }
  ~Undisturbed() {
    if (changed_) ::sched_setscheduler(0, policy_, &before_);
  }
  Undisturbed(const Undisturbed&) = delete;
  Undisturbed& operator=(const Undisturbed&) = delete;

 private:
  int policy_;
  sched_param before_{};
  bool changed_ = false;
};

/// Connects to a job's server and says it. No descriptor when that is not possible at once.
FileDescriptor say_hello(const JobSocket& job, const std::vector<std::byte>& hello, const NbdConnection::Options& options) {
  const std::string name = location_for_people(options.uri);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (job.path.size() >= sizeof address.sun_path) return FileDescriptor();
  std::memcpy(address.sun_path, job.path.data(), job.path.size());
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const Handshake under_way(options.lifeline);
  if (under_way.refused()) throw Fault(options.fault, name + ": the backup job is being ended");
  // Nothing may come between these two calls: QEMU, which the first one wakes, waits until the second.
  const Undisturbed meanwhile;
  const int connected = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const ssize_t said = connected < 0 ? -1 : ::send(socket.get(), hello.data(), hello.size(), MSG_NOSIGNAL);
  if (connected < 0 && errno != EAGAIN) throw Fault(options.fault, name + ": connect: " + std::strerror(errno));
  if (said != static_cast<ssize_t>(hello.size())) socket.reset();
  return socket;
}

}  // namespace

/// A libnbd handle that is told a handshake which has already taken place.
class NbdConnection::HandleReplay {
 public:
  HandleReplay(const std::string& export_name, const std::vector<std::string>& contexts, FaultKind fault, const std::string& name)
      : nbd_(create_handle(fault, name)), fault_(fault), name_(name) {
    add_contexts(nbd_, contexts, fault, name);
    if (nbd_set_export_name(nbd_, export_name.c_str()) == -1) throw Fault(fault, name + ": " + last_error());
  }
  ~HandleReplay() {
    if (nbd_ != nullptr) nbd_close(nbd_);
  }
  HandleReplay(const HandleReplay&) = delete;
  HandleReplay& operator=(const HandleReplay&) = delete;

  /// True when libnbd, given the answers, has said this hello and agrees with the server; false when it has said anything else.
  /// A refusal by the server is a Fault, in libnbd's words.
  bool runs_as(std::span<const std::byte> hello, std::span<const std::byte> answer) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return false;
    const FileDescriptor ours(ends[0]);
    const bool told = ::send(ours.get(), answer.data(), answer.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(answer.size());
    ::shutdown(ours.get(), SHUT_WR);  // so that what it might still wait for comes to an end
    const bool agreed = nbd_connect_socket(nbd_, ends[1]) == 0;
    std::vector<std::byte> said(hello.size() + 1);
    const ssize_t length = ::recv(ours.get(), said.data(), said.size(), 0);
    const bool same =
        told && length >= static_cast<ssize_t>(hello.size()) && std::equal(hello.begin(), hello.end(), said.begin());
    if (same && !agreed) throw Fault(fault_, name_ + ": " + last_error());
    return same && length == static_cast<ssize_t>(hello.size());
  }

  /// The handle, from now on connected to `socket`, of which it has a duplicate.
  nbd_handle* take(int socket) {
    if (::dup3(socket, nbd_aio_get_fd(nbd_), O_CLOEXEC) < 0) throw Fault(fault_, name_ + ": dup: " + std::strerror(errno));
    return std::exchange(nbd_, nullptr);
  }

 private:
  nbd_handle* nbd_;
  const FaultKind fault_;
  const std::string name_;
};

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
      nbd_(create_handle(options_.fault, name())),
      state_changed_(loop),
      death_kind_(options_.fault),
      watchdog_(loop),
      stop_(stop),
      on_stop_(stop, [this] { abort(FaultKind::interrupted, "stopped"); }) {}

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
  ++under_way_;
  bool opened = false;  // (g++ 12 goes astray when a co_await stands behind a ||)
  if (options_.job) opened = co_await open_at_once();
  if (!opened) co_await open_by_uri();
  --under_way_;
  if (is_over()) throw Fault(death_kind_, name() + ": " + (death_.empty() ? "connection closed" : death_));
  co_return describe();
}

asio::awaitable<void> NbdConnection::open_by_uri() {
  const Handshake under_way(options_.lifeline);
  if (under_way.refused()) throw Fault(options_.fault, name() + ": the backup job is being ended");
  add_contexts(nbd_, contexts_of(options_), options_.fault, name());
  if (nbd_aio_connect_uri(nbd_, options_.uri.c_str()) == -1) throw Fault(options_.fault, name() + ": " + last_error());
  follow();
  while (!is_over() && nbd_aio_is_ready(nbd_) != 1) {
    co_await state_changed_.wait();
    follow();
  }
}

/// The whole handshake is said at once, which leaves nothing that the server could be waiting for; then libnbd is told what it
/// would have been told. False when libnbd would have said something else, or there is no room for all at once: then word by
/// word.
asio::awaitable<bool> NbdConnection::open_at_once() {
  const std::vector<std::string> contexts = contexts_of(options_);
  const std::vector<std::byte> hello = nbd::client_hello(options_.job->export_name, contexts);
  FileDescriptor socket = say_hello(*options_.job, hello, options_);
  if (!socket) co_return false;
  descriptor_.emplace(loop_, socket.release());
  const nbd::HelloAnswer answer = co_await answer_on(descriptor_->native_handle());
  HandleReplay replay(options_.job->export_name, contexts, options_.fault, name());
  if (!replay.runs_as(hello, answer.bytes())) {
    drop_descriptor();
    co_return false;
  }
  nbd_close(std::exchange(nbd_, replay.take(descriptor_->native_handle())));
  drop_descriptor();
  follow();
  co_return true;
}

asio::awaitable<nbd::HelloAnswer> NbdConnection::answer_on(int socket) {
  nbd::HelloAnswer answer;
  std::array<std::byte, 4096> bytes;
  while (!answer.whole()) {
    co_await descriptor_->async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
    const ssize_t some = ::recv(socket, bytes.data(), bytes.size(), 0);
    if (some < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (some <= 0) throw Fault(death_kind_, name() + ": " + (death_.empty() ? "connection closed" : death_));
    last_activity_ns_ = monotonic_ns();
    try {
      answer.take(std::span(bytes).first(static_cast<std::size_t>(some)));
    } catch (const FormatError& error) {
      throw Fault(options_.fault, name() + ": " + error.what());
    }
  }
  co_return answer;
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
