// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See console.h.
#include "tools/console.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <limits.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/descriptor.h"
#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

constexpr std::size_t kMostBacklog = 1 << 20;
constexpr std::string_view kOurName = "nasbackup: ";
constexpr std::string_view kClearLine = "\r\x1b[K";

}  // namespace

void Console::line(std::string_view text) {
  if (!as_json_) return raw_line(printable(text, "\t"));
  if (text.starts_with(kOurName)) text.remove_prefix(kOurName.size());
  raw_line(nlohmann::json{{"message", text}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void Console::raw_line(std::string_view text) {
  clear_status();
  if (backlog_.size() + text.size() > kMostBacklog)
    ++dropped_;
  else
    backlog_ += std::string(text) + "\n";
  pump();
}

void Console::status(std::string_view text) {
  if (!backlog_.empty()) return;
  backlog_ = std::string(kClearLine) + std::string(text);
  status_shown_ = true;
  pump();
}

void Console::clear_status() {
  if (status_shown_) backlog_ += kClearLine;
  status_shown_ = false;
}

// A pipe that is ready takes PIPE_BUF bytes without waiting (unless another writer is faster).
void Console::pump() {
  pollfd one{fd_, POLLOUT, 0};
  while (!backlog_.empty() && ::poll(&one, 1, 0) > 0) {
    const ssize_t written = ::write(fd_, backlog_.data(), std::min<std::size_t>(backlog_.size(), PIPE_BUF));
    if (written < 0 && errno == EAGAIN) return;
    if (written < 0 && errno != EINTR) return backlog_.clear();  // nobody is there to read
    if (written > 0) backlog_.erase(0, static_cast<std::size_t>(written));
  }
}

void Console::finish() {
  clear_status();
  if (dropped_ != 0) backlog_ += fmt::format("nasbackup: {} messages were dropped, because nobody read them\n", dropped_);
  write_all(fd_, backlog_);
  backlog_.clear();
  dropped_ = 0;
}

}  // namespace nasbackup::tools
