// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One connection to an NBD server: a libnbd handle driven by the loop. The only file that libnbd calls back.
// Used on the loop's thread only. A command that was issued is always waited for, because libnbd writes into our buffer until it
// has completed; abort() makes all of them complete at once, with an error.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "engine/io/fault.h"
#include "engine/io/job_socket.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/io/stop_signal.h"
#include "engine/io/wakeup.h"
#include "formats/nbd_hello.h"

struct nbd_handle;

namespace nasbackup {

/// A block status entry as the server sent it (NBD protocol, "Metadata querying").
struct NbdExtent {
  std::uint32_t length;
  std::uint32_t flags;
};

/// What a server says of a stretch of the disk, in each context that it granted; either list may end before the other.
struct NbdStatus {
  std::vector<NbdExtent> allocation;  ///< base:allocation
  std::vector<NbdExtent> bitmap;      ///< the context that was asked for besides
};

/// What the server said of the export (NBD_INFO_EXPORT, NBD_INFO_BLOCK_SIZE).
struct NbdExport {
  std::uint64_t size = 0;
  std::uint64_t minimum_block = 1;
  std::uint64_t maximum_block = 32u << 20;
  bool multi_conn = false;
  bool read_only = false;
  bool can_zero = false;
  bool can_flush = false;
  bool has_allocation = false;  ///< the context base:allocation was granted
  bool has_bitmap = false;      ///< and the other one that was asked for
};

class NbdConnection : public std::enable_shared_from_this<NbdConnection> {
 public:
  struct Options {
    std::string uri;
    std::string bitmap;                   ///< a context to ask for besides base:allocation; empty: none
    FaultKind fault = FaultKind::source;  ///< whose fault it is when something fails: the source's, or the target's (failed)
    std::chrono::seconds timeout{60};     ///< a server that neither sends nor takes anything for so long is given up
    std::optional<JobSocket> job = {};    ///< what the URI names, when it is a job's: the handshake is said to it at once
    LifelineState* lifeline = nullptr;    ///< of the job
  };

  NbdConnection(asio::any_io_executor loop, StopSignal& stop, Options options);
  ~NbdConnection();
  NbdConnection(const NbdConnection&) = delete;
  NbdConnection& operator=(const NbdConnection&) = delete;

  /// Connects and negotiates. Throws Fault, like everything below.
  asio::awaitable<NbdExport> open();
  asio::awaitable<void> read(std::uint64_t offset, std::span<std::byte> into);
  asio::awaitable<void> write(std::uint64_t offset, std::span<const std::byte> bytes);
  asio::awaitable<void> zero(std::uint64_t offset, std::uint64_t length);
  asio::awaitable<void> flush();
  /// The entries of each context from `offset` on, as the server sent them.
  asio::awaitable<NbdStatus> block_status(std::uint64_t offset, std::uint64_t length);

  /// The URI for messages.
  std::string name() const { return location_for_people(options_.uri); }
  unsigned commands_under_way() const noexcept { return under_way_; }

 private:
  struct Command;
  class HandleReplay;
  asio::awaitable<bool> open_at_once();
  asio::awaitable<nbd::HelloAnswer> answer_on(int socket);
  asio::awaitable<void> open_by_uri();
  asio::awaitable<void> run(Command& command, const std::function<std::int64_t()>& issue);
  void follow();
  void wait_for(int direction);
  void on_ready(int direction);
  bool has_something_to_read() const noexcept;
  void wake_completed();
  void drop_descriptor() noexcept;
  void abort(FaultKind kind, const std::string& reason) noexcept;
  void watch();
  void look_for_stall();
  bool is_over() const noexcept;
  NbdExport describe();
  [[noreturn]] void fail(const std::string& what, int error) const;
  static int on_complete(void* user, int* error) noexcept;
  static int on_chunk(void* user, const void* bytes, std::size_t count, std::uint64_t offset, unsigned status,
                      int* error) noexcept;
  static int on_extents(void* user, const char* context, std::uint64_t offset, std::uint32_t* entries, std::size_t count,
                        int* error) noexcept;

  asio::any_io_executor loop_;
  Options options_;
  nbd_handle* nbd_;
  std::optional<asio::posix::stream_descriptor> descriptor_;  // a duplicate: ours to close
  int watched_fd_ = -1;                                       // libnbd's descriptor that it duplicates
  bool waiting_read_ = false;
  bool waiting_write_ = false;
  Wakeup state_changed_;
  std::vector<Command*> completed_;
  unsigned under_way_ = 0;
  std::int64_t last_activity_ns_ = 0;  // the server sent or took something, or the first command under way was issued
  std::string death_;                  // why the connection ended, and whose fault that is
  FaultKind death_kind_;
  asio::steady_timer watchdog_;
  StopSignal& stop_;
  StopSignal::Subscription on_stop_;
};

}  // namespace nasbackup
