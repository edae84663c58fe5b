// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See nbd_server.h.
#include "engine/serve/nbd_server.h"

#include <cassert>
#include <cerrno>
#include <cstring>
#include <exception>

#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>

namespace nasbackup {

namespace {

/// Descriptors are not without end; who is beyond this waits in the kernel.
constexpr unsigned kMostConnections = 128;
/// When the system has no descriptor or memory left for another client.
constexpr std::chrono::milliseconds kShortage{100};
/// A damaged image fails many reads: so many are told of.
constexpr unsigned kMostReports = 20;

bool is_shortage(int error) noexcept { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }
bool is_passing(int error) noexcept { return error == EAGAIN || error == EINTR || error == ECONNABORTED || error == EPERM; }

std::vector<nbd::ExportFacts> facts_of(const std::vector<NbdServer::Export>& exports) {
  std::vector<nbd::ExportFacts> facts;
  for (const NbdServer::Export& exported : exports) facts.push_back({exported.name, exported.source->traits().size});
  return facts;
}

std::vector<ServedDisk> disks_of(std::vector<NbdServer::Export> exports, Limiter& limiter, LifelineState* lifeline) {
  std::vector<ServedDisk> disks;
  for (NbdServer::Export& exported : exports) disks.emplace_back(std::move(exported.source), limiter, lifeline);
  return disks;
}

}  // namespace

NbdServer::NbdServer(JobLoop& job, std::vector<Export> exports, Limiter& limiter, Options options)
    : job_(job),
      options_(std::move(options)),
      environment_{job.executor(),
                   job.stop(),
                   facts_of(exports),
                   disks_of(std::move(exports), limiter, options_.lifeline),
                   {job.executor(), kMostClients},
                   options_.memory / kMostClients,
                   options_.handshake_timeout,
                   [this](const std::string& failure) { report(failure); }},
      connections_(job.executor(), kMostConnections),
      sessions_(job.executor(), [](std::exception_ptr) {}) {
  assert(options_.memory >= kLeastMemory);
}

asio::awaitable<void> NbdServer::run(ListeningSocket& socket) {
  for (;;) {
    ReplyRoom::Share connection = co_await connections_.take(1);
    FileDescriptor client = co_await next_client(socket);
    if (!client) break;
    ++clients_;
    sessions_.spawn(serve(std::move(client), std::move(connection)));
  }
  co_await sessions_.join();
}

// None: the job is stopped, or has failed: who is being served must be gone before run() ends. A copy of the descriptor belongs
// to the loop meanwhile, which closes what it is given.
asio::awaitable<FileDescriptor> NbdServer::next_client(ListeningSocket& socket) {
  asio::posix::stream_descriptor ready(job_.executor(), ::dup(socket.fd()));
  Wakeup shortage(job_.executor());
  const auto give_up = [&] {
    ready.cancel();
    shortage.notify_all();
  };
  const StopSignal::Subscription on_stop(job_.stop(), give_up);
  while (!job_.stop().stopped()) {
    FileDescriptor client = socket.accept();
    const int error = errno;
    if (client) co_return client;
    if (is_shortage(error)) {
      co_await shortage.wait_for(kShortage);
    } else if (is_passing(error)) {
      boost::system::error_code stopped;
      co_await ready.async_wait(asio::posix::descriptor_base::wait_read, asio::redirect_error(asio::use_awaitable, stopped));
    } else {
      const Fault failure(FaultKind::failed, socket.uri("") + ": accept: " + std::strerror(error));
      job_.fail(std::make_exception_ptr(failure));
      break;
    }
  }
  co_return FileDescriptor();
}

// A client for whom there is no memory is let go; the others stay.
asio::awaitable<void> NbdServer::serve(FileDescriptor client, ReplyRoom::Share) {
  try {
    const auto session = std::make_shared<NbdSession>(environment_, std::move(client));
    co_await session->run();
  } catch (const std::exception& error) {
    report(error.what());
  }
}

void NbdServer::report(const std::string& failure) {
  if (!options_.on_message || reports_ >= kMostReports) return;
  options_.on_message("warning: " + failure + (++reports_ == kMostReports ? "; further ones are not told" : ""));
}

}  // namespace nasbackup
