// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See turn.h.
#include "tools/cloudstack/turn.h"

#include <fmt/format.h>
#include <signal.h>
#include <time.h>

#include "tools/cloudstack/call.h"
#include "tools/printable.h"
#include "tools/supervisor.h"

namespace nasbackup::tools::cloudstack {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

constexpr timespec kPause{0, 200'000'000};
constexpr std::chrono::minutes kRemark{5};

/// Sleeps; the number of the signal that ends the call, if one comes meanwhile, else 0.
int sleep_or_signal() noexcept {
  sigset_t ending;
  ::sigemptyset(&ending);
  // An ignored one (nohup) never comes.
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&ending, number);
  const int number = ::sigtimedwait(&ending, nullptr, &kPause);
  return number > 0 ? number : 0;
}

}  // namespace

std::string timed_out_text(const Request& request) {
  return fmt::format("Backup timed out after {}s for VM {}", request.deadline->count(), printable(request.backup.vm));
}

Turn::Turn(const Zone& zone, const Request& request, LogFile& log) {
  if (zone.max_per_host == 0 || request.storage->task != StorageTask::back_up) return;
  place_.emplace();
  try {
    wait(zone, request, log);
  } catch (const CallError& error) {
    log.line(error.what());
    throw;
  }
}

void Turn::wait(const Zone& zone, const Request& request, LogFile& log) {
  const auto began = Clock::now();
  const std::string backup = "backup of VM " + printable(request.backup.vm);
  std::optional<Clock::time_point> told;
  for (std::size_t before; (before = place_->before()) >= zone.max_per_host;) {
    const auto now = Clock::now();
    waited_ = std::chrono::duration_cast<seconds>(now - began);
    if (request.deadline && waited_ >= *request.deadline) throw CallError(timed_out_text(request));
    if (static_cast<std::uint64_t>(waited_.count()) >= zone.queue_timeout)
      throw CallError(fmt::format("{}: it waited {}s for its turn (queue_timeout): {} are before it, and max_per_host is {}",
                                  backup, waited_.count(), before, zone.max_per_host));
    if (!told || now - *told >= kRemark) {
      told = now;
      log.line(fmt::format("{}: waits for its turn, for {}s: {} before it, max_per_host is {}", backup, waited_.count(), before,
                           zone.max_per_host));
    }
    if (const int number = sleep_or_signal(); number != 0)
      throw CallError(fmt::format("{}: stopped by {} while it waited for its turn", backup, signal_text(number)));
  }
  waited_ = std::chrono::duration_cast<seconds>(Clock::now() - began);
  if (told) log.line(fmt::format("{}: its turn after {}s", backup, waited_.count()));
}

}  // namespace nasbackup::tools::cloudstack
