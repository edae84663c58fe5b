// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See worker.h.
#include "tools/worker.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <thread>

#include "tools/cloudstack/work.h"
#include "tools/limit_reload.h"
#include "tools/printable.h"
#include "tools/result.h"

namespace nasbackup::tools {

namespace {

/// One line, whole, because several threads may write: the kernel does not tear what fits into PIPE_BUF.
void write_message(const std::string& text) {
  std::string line = "nasbackup: " + printable(text);
  if (line.size() >= PIPE_BUF) line.resize(PIPE_BUF - 1);
  write_all(STDERR_FILENO, line + "\n");
}

bool is_reload_order(int control) {
  char order = 0;
  return ::read(control, &order, 1) == 1 && order == kReloadOrder;
}

/// Obeys the supervisor until it asks for the end or is gone, or until a SIGTERM is sent to this very process; then asks the job
/// to stop.
void obey(int control, LimitReload reload, std::stop_source& stop) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  const Descriptor signals(::signalfd(-1, &set, SFD_CLOEXEC));
  pollfd both[] = {{control, POLLIN, 0}, {signals.get(), POLLIN, 0}};
  for (;;) {
    if (::poll(both, 2, -1) < 0 && errno == EINTR) continue;
    if (both[1].revents != 0 || !is_reload_order(control)) break;
    write_message(reload.run());
  }
  stop.request_stop();
}

}  // namespace

void run_worker(const Request& request, std::shared_ptr<Lifeline> lifeline, WorkerPipes pipes) {
  replace_stdio(pipes.messages.get());
  pipes.messages.close();
  std::stop_source stop;
  // Before there are threads, so that all of them have it.
  const std::string complaint = lower_priority(request.priority);
  if (!complaint.empty()) write_message(complaint);
  const auto rate_control = std::make_shared<RateControl>();
  std::thread(obey, pipes.control.get(), LimitReload(request, rate_control), std::ref(stop)).detach();
  JobControl control{stop.get_token(), lifeline, write_message, rate_control, {}};
  if (request.verbose) control.on_detail = write_message;
  std::unique_ptr<MountedStorage> storage;  // unmounted after the answer: a busy umount changes nothing about it
  const Json result = request.storage ? cloudstack::perform_call(request, control, storage) : perform(request, control);
  const std::string answer = result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const bool told = write_all(pipes.result.get(), answer + "\n");
  pipes.result.close();
  if (storage != nullptr)
    if (const std::string busy = storage->unmount(); !busy.empty()) write_message("warning: umount: " + busy);
  storage.reset();
  // With nobody to take the result, the supervisor is gone, and there is none to tidy up behind us.
  if (!told) lifeline->abandon();
  ::_exit(0);
}

}  // namespace nasbackup::tools
