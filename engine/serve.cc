// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::serve: an image, or each disk of a set, as NBD exports that can only be read.
#include "engine/serve/nbd_server.h"

#include <algorithm>

#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/nasbackup.h"
#include "engine/pipeline/build_pipeline.h"
#include "engine/rate_control.h"
#include "engine/stored_disks.h"
#include "engine/transfer.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

/// What the processes need beside the buffers (docs/performance.md).
constexpr std::uint64_t kBesideBuffers = 40u << 20;
constexpr unsigned kMostThreads = 1024, kMostConnections = 64;

void check_options(const ServeOptions& options) {
  const auto refuse = [](const std::string& line) { throw Fault(FaultKind::usage, line); };
  if (options.socket.empty() == !options.port) refuse("serve: where? write --socket PATH or --port N, one of them");
  check_source_format(options.source_format);
  if (options.memory < kBesideBuffers + 2 * NbdServer::kLeastMemory)
    refuse("--memory: " + std::to_string(options.memory) + ": write at least 48M");
  if (options.threads > kMostThreads) refuse("--threads: " + std::to_string(options.threads) + ": write at most 1024");
  if (options.connections > kMostConnections)
    refuse("--connections: " + std::to_string(options.connections) + ": write at most 64");
}

/// One server from its options to its end; used once.
class Serving {
 public:
  Serving(const ServeOptions& options, const JobControl& control)
      : options_((check_options(options), options)),
        control_(control),
        lifeline_(control.lifeline ? control.lifeline : std::make_shared<Lifeline>()),
        job_(options.threads, control.stop),
        stored_(options.source, options.source_format, options, control),
        limiter_(job_.executor(), job_.stop(), limit_of(options.limit), join_rate_group(options.rate_group)),
        on_limit_(control.rate_control, [this](const Limit& limit) { limiter_.set(limit); }) {}

  ServeReport run() {
    const std::int64_t began = monotonic_ns();
    try {
      job_.run([this] { return serve_until_stopped(); });
    } catch (const Fault& fault) {
      // Being asked to stop is how it ends.
      if (fault.kind() != FaultKind::interrupted || !control_.stop.stop_requested()) throw;
    }
    report_.data_bytes = lifeline_->state().read_bytes;
    report_.seconds = static_cast<double>(monotonic_ns() - began) / 1e9;
    return std::move(report_);
  }

 private:
  asio::awaitable<void> serve_until_stopped() {
    std::vector<NbdServer::Export> exports = co_await open_exports();
    ListeningSocket socket = options_.port ? ListeningSocket::at_port(*options_.port) : ListeningSocket::at_path(options_.socket);
    NbdServer::Options options{buffers() / 2, options_.handshake_timeout, control_.on_message, &lifeline_->state()};
    NbdServer server(job_, std::move(exports), limiter_, std::move(options));
    for (std::size_t i = 0; i < server.exports().size(); ++i) tell(server.exports()[i], stored_.disks()[i].path, socket);
    lifeline_->state().phase = "serving";
    co_await server.run(socket);
    report_.clients = server.clients();
  }

  /// What there is to serve: the first export also answers to the empty name.
  asio::awaitable<std::vector<NbdServer::Export>> open_exports() {
    PipelineBounds bounds;
    bounds.memory = buffers() / 2 / std::max<std::size_t>(1, stored_.disks().size());
    bounds.connections = options_.connections;
    bounds.io_timeout = options_.io_timeout;
    std::vector<NbdServer::Export> exports;
    for (std::size_t i = 0; i < stored_.disks().size(); ++i) {
      SourcePlace place = stored_.source(i);
      place.shared = options_.shared_source;
      OpenedSource opened = co_await open_source(job_, place, bounds, &lifeline_->state());
      for (const std::string& note : opened.notes)
        if (control_.on_message) control_.on_message(note);
      exports.push_back({stored_.disks()[i].name.substr(0, nbd::kMostString), std::move(opened.source)});
    }
    co_return exports;
  }

  void tell(const nbd::ExportFacts& facts, const std::string& source, const ListeningSocket& socket) {
    const ServedExport served{facts.name, socket.uri(facts.name), location_for_people(source), facts.size};
    report_.exports.push_back(served);
    lifeline_->state().total_bytes += facts.size;
    if (control_.on_message)
      control_.on_message("serving " + served.source + ", " + std::to_string(facts.size) + " bytes: " + served.uri);
  }

  std::uint64_t buffers() const noexcept { return options_.memory - kBesideBuffers; }

  const ServeOptions options_;
  const JobControl& control_;
  std::shared_ptr<Lifeline> lifeline_;
  JobLoop job_;
  StoredDisks stored_;
  Limiter limiter_;
  RateListener on_limit_;
  ServeReport report_;
};

}  // namespace

ServeReport serve(const ServeOptions& options, const JobControl& control) {
  return translate_faults([&] { return Serving(options, control).run(); });
}

}  // namespace nasbackup
