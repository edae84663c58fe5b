// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See worker.h.
#include "tools/worker.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <thread>

#include "tools/printable.h"
#include "tools/result.h"

namespace nasbackup::tools {

namespace {

/// Waits for the supervisor's word, for its end, or for a SIGTERM sent to this very process, and then asks the job to stop.
void wait_for_stop(int control, std::stop_source& stop) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  const Descriptor signals(::signalfd(-1, &set, SFD_CLOEXEC));
  pollfd both[] = {{control, POLLIN, 0}, {signals.get(), POLLIN, 0}};
  while (::poll(both, 2, -1) < 0 && errno == EINTR) {
  }
  stop.request_stop();
}

/// One line, whole, because several threads may write: the kernel does not tear what fits into PIPE_BUF.
void write_message(const std::string& text) {
  std::string line = "nasbackup: " + printable(text);
  if (line.size() >= PIPE_BUF) line.resize(PIPE_BUF - 1);
  write_all(STDERR_FILENO, line + "\n");
}

}  // namespace

void run_worker(const Request& request, std::shared_ptr<Lifeline> lifeline, WorkerPipes pipes) {
  replace_stdio(pipes.messages.get());
  pipes.messages.close();
  // Keys leave traces also outside of the memory that is kept for them: no core file then.
  if (request.has_secrets()) ::prctl(PR_SET_DUMPABLE, 0);
  std::stop_source stop;
  std::thread(wait_for_stop, pipes.control.get(), std::ref(stop)).detach();
  const JobControl control{stop.get_token(), lifeline, write_message};
  const std::string answer = perform(request, control).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  // With nobody to take the result, the supervisor is gone, and there is none to tidy up behind us.
  if (!write_all(pipes.result.get(), answer + "\n")) lifeline->abandon();
  pipes.result.close();
  ::_exit(0);
}

}  // namespace nasbackup::tools
