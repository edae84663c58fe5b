// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See supervisor.h.
#include "tools/supervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/descriptor.h"
#include "tools/guard.h"
#include "tools/printable.h"
#include "tools/progress.h"
#include "tools/worker.h"

namespace nasbackup::tools {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

constexpr int kTick = 100;  // ms between two looks at the lifeline
constexpr auto kBarPeriod = std::chrono::milliseconds(200);
constexpr auto kJsonPeriod = seconds(1);
constexpr seconds kSecondThought{1};       // before another signal counts
constexpr seconds kStopPatience{30};       // for a worker that was asked to stop
constexpr seconds kStallPatience{10};      // of its target, then
constexpr seconds kExitPatience{5};        // for the end of a worker that has given its result
constexpr seconds kReleaseWhenGivenUp{1};  // the caller gets its exit status within the time-out + 2 s; the guard goes on
constexpr seconds kReleaseAtEnd{10};
constexpr std::size_t kLongestLine = 1 << 16;

sigset_t our_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1, SIGCHLD}) ::sigaddset(&set, number);
  struct sigaction hangup {};
  ::sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) ::sigaddset(&set, SIGHUP);  // nohup
  return set;
}

bool colour_wanted() {
  const char* no_color = std::getenv("NO_COLOR");
  return no_color == nullptr || *no_color == '\0';
}

ProgressStyle effective_style(ProgressStyle asked) {
  if (asked != ProgressStyle::automatic) return asked;
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  return ::isatty(STDERR_FILENO) == 1 && !dumb ? ProgressStyle::terminal : ProgressStyle::none;
}

std::size_t terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string target_of(const Request& request) {
  if (request.storage) return printable(request.storage->storage.type) + " store";  // its address may hold a password
  if (request.verb == kBackup) return printable(request.backup.to);
  if (request.verb == kServe) return printable(location_for_people(request.serve.source));
  if (request.verb == kTune)
    return printable(request.tune.to.empty() ? location_for_people(request.tune.source) : request.tune.to);
  return printable(request.verb == kConvert ? location_for_people(request.convert.target) : request.path);
}

/// Whether this process belongs to a terminal.
bool has_terminal() { return static_cast<bool>(Descriptor(::open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK))); }

class Supervisor {
 public:
  Supervisor(const Request& request, Console& console, LogFile& log)
      : request_(request),
        console_(console),
        log_(log),
        style_((request.verb & (kTransfers | kStored)) != 0 ? effective_style(request.progress) : ProgressStyle::none) {}

  Json run() {
    start();
    while (!over()) {
      wait_for_events();
      take_messages();
      if (!read_available(result_.get(), answer_) && !result_closed_) result_closed_ = Clock::now();
      show_progress();
      check_limits();
    }
    read_available(result_.get(), answer_);
    take_messages();
    if (!unfinished_line_.empty()) say(std::exchange(unfinished_line_, {}));
    console_.clear_status();
    Json result = conclusion();
    release_guest_at_end(result);
    const bool failed_after_publishing = request_.storage && result.contains("error") && lifeline_->has_published_set();
    if (lifeline_->has_partial_set() || failed_after_publishing) result["left_behind"] = true;
    return result;
  }

 private:
  void start() {
    const sigset_t set = our_signals();
    signals_ = Descriptor(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) throw Error(Outcome::failed, std::string("signalfd: ") + ::strerror(errno));
    lifeline_ = std::make_shared<Lifeline>();
    log_.line(fmt::format("nasbackup {}: {}, run {}", version(), request_.verb_name, lifeline_->run_id()));
    if (request_.touches_guest()) guard_.emplace(*lifeline_, log_, request_.secrets());
    start_worker();
  }

  void start_worker() {
    Pipe control, messages, result;
    Descriptor alive = guard_ ? guard_->take_worker_end() : Descriptor();
    worker_ = fork_process();
    if (worker_ == 0) {
      control.write_end.close();
      messages.read_end.close();
      result.read_end.close();
      signals_.close();
      log_.forget();
      if (guard_) guard_->forget();
      run_worker(request_, lifeline_,
                 {std::move(control.read_end), std::move(messages.write_end), std::move(result.write_end), std::move(alive)});
    }
    // The worker's alone.
    forget_secrets(request_.secrets());
    control_ = std::move(control.write_end);
    messages_ = std::move(messages.read_end);
    result_ = std::move(result.read_end);
  }

  bool over() const {
    if (worker_status_ || given_up_) return true;
    return result_closed_ && Clock::now() - *result_closed_ > kExitPatience;
  }

  void wait_for_events() {
    // A stream at its end would always be ready.
    pollfd watched[] = {{signals_.get(), POLLIN, 0},
                        {messages_.get(), POLLIN, 0},
                        {result_closed_ ? -1 : result_.get(), POLLIN, 0},
                        {console_.has_backlog() ? STDERR_FILENO : -1, POLLOUT, 0}};
    ::poll(watched, std::size(watched), kTick);
    take_signals();
    console_.pump();
  }

  void take_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      const int number = static_cast<int>(info.ssi_signo);
      if (number == SIGUSR1)
        say("nasbackup: " + sampled().line());
      else if (number == SIGHUP && !request_.hangup_ends && !terminal_is_gone(info))
        reload_limit();
      else if (number != SIGCHLD)
        stop_by_signal(number);
    }
    reap();
  }

  void reap() {
    int status = 0;
    if (worker_status_ || ::waitpid(worker_, &status, WNOHANG) != worker_) return;
    worker_status_ = status;
    lifeline_->process_is_gone();
  }

  // The kernel says it when a terminal hangs up; a shell that passes it on to its jobs does so when the terminal has gone.
  bool terminal_is_gone(const signalfd_siginfo& info) const {
    return info.ssi_code == SI_KERNEL || (had_terminal_ && !has_terminal());
  }

  void reload_limit() {
    if ((request_.verb & (kTransfers | kStored | kServe)) != 0 && !asked_at_) write_all(control_.get(), {&kReloadOrder, 1});
  }

  // A second one, by somebody who has waited (timeout(1) sends two at once), means: now.
  void stop_by_signal(int number) {
    if (signal_ != 0 && Clock::now() - *asked_at_ < kSecondThought) return;
    if (signal_ != 0) return give_up(signal_result(number, "ended by " + signal_text(number) + " before the clean end"));
    signal_ = number;
    log_.line("nasbackup: " + signal_text(number) + ": the run is asked to stop");
    ask_to_stop();
  }

  void ask_to_stop() {
    asked_at_ = Clock::now();
    write_all(control_.get(), "s");
  }

  void take_messages() {
    if (!messages_) return;
    if (!read_available(messages_.get(), unfinished_line_)) messages_.close();
    for (std::size_t end; (end = unfinished_line_.find('\n')) != std::string::npos || unfinished_line_.size() > kLongestLine;) {
      const std::size_t length = std::min(end, kLongestLine);
      say(unfinished_line_.substr(0, length));
      unfinished_line_.erase(0, length + (length == end));
    }
  }

  void say(const std::string& line) {
    console_.line(line);
    log_.line(line);
  }

  const ProgressMeter& sampled() {
    meter_.sample(progress_of(*lifeline_), std::chrono::duration<double>(Clock::now() - began_).count());
    return meter_;
  }

  void show_progress() {
    const auto period = style_ == ProgressStyle::json ? Clock::duration(kJsonPeriod) : Clock::duration(kBarPeriod);
    if (over() || Clock::now() - shown_at_ < period) return;
    shown_at_ = Clock::now();
    sampled();
    tell_phase();
    log_progress();
    if (style_ == ProgressStyle::terminal) console_.status(meter_.bar(terminal_width() - 1, colour_wanted()));
    if (style_ == ProgressStyle::json) console_.raw_line(meter_.json());
  }

  /// The log may be one for many runs.
  void log_progress() {
    if ((request_.verb & (kTransfers | kStored)) == 0) return;
    const std::string whose = request_.storage ? "backup of VM " + printable(request_.backup.vm) : "nasbackup";
    if (remarks_.due(progress_of(*lifeline_), std::chrono::duration<double>(Clock::now() - began_).count()))
      log_.line(whose + ": " + meter_.line());
  }

  void tell_phase() {
    const std::string phase = progress_of(*lifeline_).phase;
    if (request_.verbose && phase != std::exchange(phase_, phase)) say("nasbackup: " + phase);
  }

  void check_limits() {
    if (over()) return;
    const auto now = Clock::now();
    const auto patience = asked_at_ ? std::min(request_.io_timeout, kStallPatience) : request_.io_timeout;
    const std::chrono::nanoseconds stalled = lifeline_->target_stalled_for();
    if (stalled > patience)
      return give_up(reason_to_stop(fmt::format("{}: no answer for {}, given up (--io-timeout)", target_of(request_),
                                                human_time(std::chrono::duration<double>(stalled).count()))));
    if (!asked_at_ && request_.deadline && now - began_ + request_.waited > *request_.deadline) {
      past_deadline_ = true;
      ask_to_stop();
    }
    if (asked_at_ && now - *asked_at_ > kStopPatience) give_up(reason_to_stop("the run did not stop when asked to"));
  }

  /// Why the run ends early: what it was asked for, else `otherwise`, which is a time-out.
  Json reason_to_stop(const std::string& otherwise) const {
    if (signal_ != 0) return signal_result(signal_, "stopped by " + signal_text(signal_));
    if (past_deadline_) return past_deadline();
    return error_result(Outcome::timed_out, otherwise);
  }

  Json past_deadline() const {
    const std::string line = fmt::format("{}: not done within --deadline {}", request_.verb_name, request_.deadline->count());
    Json result = error_result(Outcome::timed_out, line);
    result["past_deadline"] = true;
    return result;
  }

  // The worker first, so that nothing of it can take the guest again. One that hangs in the kernel stays behind.
  void give_up(Json result) {
    ::kill(worker_, SIGKILL);
    given_up_ = std::move(result);
    for (int i = 0; i < 20 && !worker_status_; ++i, reap()) ::usleep(10'000);
    held_ = lifeline_->release_guest(kReleaseWhenGivenUp);
    reap();
    if (!worker_status_) lifeline_->abandon();
  }

  Json conclusion() {
    if (given_up_) return *given_up_;
    if (!worker_status_) {  // it has given its result and does not end
      ::kill(worker_, SIGKILL);
      lifeline_->abandon();
    }
    Json answer = Json::parse(answer_, nullptr, false);
    const bool whole = answer.is_object() && answer.contains("exit_status") && answer.contains("outcome");
    // What was asked to stop and was done all the same, is done.
    if (whole && (!asked_at_ || !answer.contains("error"))) return answer;
    if (asked_at_) return reason_to_stop("");
    return error_result(Outcome::failed, request_.verb_name + ": the working process " + death());
  }

  std::string death() const {
    const int status = worker_status_.value_or(0);
    if (WIFSIGNALED(status)) return "was ended by " + signal_text(WTERMSIG(status));
    return fmt::format("ended without a result, exit status {}", WEXITSTATUS(status));
  }

  void release_guest_at_end(Json& result) {
    if (!given_up_ && lifeline_->holds_guest()) held_ = lifeline_->release_guest(kReleaseAtEnd);
    if (held_.empty()) {
      if (guard_) guard_->dismiss();
      return;
    }
    if (guard_) guard_->take_over();
    tell_what_is_held(result);
    // The thread that asks libvirt may still be at it, and it uses the lifeline: that must not go before the process does.
    static std::shared_ptr<Lifeline> kept;
    kept = lifeline_;
  }

  void tell_what_is_held(Json& result) const {
    const std::string line = held_ + "; a process stays behind and goes on trying";
    if (result.contains("error"))
      result["error"] = result["error"].get<std::string>() + "; " + line;
    else
      result["warnings"].push_back(line);
    if (exit_status(result) == 0)
      result["outcome"] = "done_with_warnings", result["exit_status"] = static_cast<int>(Outcome::done_with_warnings);
  }

  const Request& request_;
  Console& console_;
  LogFile& log_;
  const ProgressStyle style_;
  const Clock::time_point began_ = Clock::now();

  std::shared_ptr<Lifeline> lifeline_;
  std::optional<Guard> guard_;
  const bool had_terminal_ = has_terminal();
  Descriptor signals_, control_, messages_, result_;
  pid_t worker_ = -1;

  std::string answer_;           // what came through result_
  std::string unfinished_line_;  // what came through messages_ after the last end of line
  std::optional<Clock::time_point> result_closed_;
  std::optional<int> worker_status_;

  int signal_ = 0;
  bool past_deadline_ = false;
  std::optional<Clock::time_point> asked_at_;
  std::optional<Json> given_up_;
  std::string held_;  // what could not be released

  ProgressMeter meter_;
  ProgressRemarks remarks_;
  std::string phase_;
  Clock::time_point shown_at_{};
};

}  // namespace

std::string signal_text(int number) {
  const char* text = ::sigdescr_np(number);
  return fmt::format("signal {} ({})", number, text == nullptr ? "?" : text);
}

void block_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_DFL);  // a caller that ignores it would take our children's statuses from us
  const sigset_t set = our_signals();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

void keep_out_of_core_files(const Request& request) noexcept {
  if (request.has_secrets()) ::prctl(PR_SET_DUMPABLE, 0);
}

Json supervise(const Request& request, Console& console, LogFile& log) { return Supervisor(request, console, log).run(); }

}  // namespace nasbackup::tools
