// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See progress.h.
#include "tools/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

constexpr double kWindow = 5;  // seconds whose mean is "the rate"
constexpr std::size_t kWidestBar = 40;
constexpr std::size_t kNarrowestBar = 8;

constexpr double kLeastPause = 30, kLongestPause = 600;  // seconds between two lines of a log
constexpr double kSteps = 20;

}  // namespace

bool ProgressRemarks::due(const Progress& progress, double now) {
  if (progress.total_bytes == 0) return false;
  const double part = static_cast<double>(progress.done_bytes) / static_cast<double>(progress.total_bytes);
  const auto step = static_cast<unsigned>(kSteps * std::min(1.0, part));
  const double pause = step > told_step_ ? kLeastPause : kLongestPause;
  if (now - told_at_ < pause) return false;
  told_at_ = now;
  told_step_ = std::max(told_step_, step);
  return true;
}

void ProgressMeter::sample(const Progress& progress, double now) {
  samples_.push_back({now, progress});
  // The first one that is older than the window stays: it is where the window begins.
  while (samples_.size() > 2 && samples_[1].time <= now - kWindow) samples_.pop_front();
}

double ProgressMeter::rate(std::uint64_t Progress::*counter) const {
  if (samples_.size() < 2) return 0;
  const Sample& first = samples_.front();
  const Sample& last = samples_.back();
  const double seconds = last.time - first.time;
  return seconds <= 0 ? 0 : static_cast<double>(last.progress.*counter - first.progress.*counter) / seconds;
}

double ProgressMeter::fraction() const {
  if (samples_.empty() || samples_.back().progress.total_bytes == 0) return 0;
  const Progress& last = samples_.back().progress;
  return std::min(1.0, static_cast<double>(last.done_bytes) / static_cast<double>(last.total_bytes));
}

double ProgressMeter::left() const {
  const double speed = rate(&Progress::done_bytes);
  if (samples_.empty() || speed <= 0) return -1;
  const Progress& last = samples_.back().progress;
  return static_cast<double>(last.total_bytes - std::min(last.done_bytes, last.total_bytes)) / speed;
}

std::string ProgressMeter::numbers() const {
  const Progress last = samples_.empty() ? Progress{} : samples_.back().progress;
  return fmt::format("{} of {}, {}", human_size(static_cast<double>(last.done_bytes)),
                     human_size(static_cast<double>(last.total_bytes)), rates());
}

std::string ProgressMeter::rates() const {
  std::string text =
      fmt::format("read {}/s, written {}/s", human_size(rate(&Progress::read_bytes)), human_size(rate(&Progress::stored_bytes)));
  if (const double seconds = left(); seconds >= 1) text += fmt::format(", {} left", human_time(seconds));
  return text;
}

std::string ProgressMeter::line() const {
  return fmt::format("{}: {:.0f} %, {}", samples_.empty() ? "starting" : samples_.back().progress.phase, 100 * fraction(),
                     numbers());
}

std::string ProgressMeter::bar(std::size_t width, bool colour) const {
  const std::string before =
      fmt::format("{:<10} {:3.0f} % ", samples_.empty() ? "starting" : samples_.back().progress.phase, 100 * fraction());
  std::string after = " " + numbers();
  if (before.size() + after.size() + kWidestBar + 2 > width) after = " " + rates();
  const std::size_t room = width > before.size() + after.size() + 2 ? width - before.size() - after.size() - 2 : 0;
  if (room < kNarrowestBar) return (before + after.substr(1)).substr(0, width);
  const std::size_t length = std::min(room, kWidestBar);
  const auto full = static_cast<std::size_t>(fraction() * static_cast<double>(length));
  const std::string drawn = std::string(full, '=') + std::string(length - full, ' ');
  return fmt::format("{}[{}{}{}]{}", before, colour ? "\x1b[32m" : "", drawn, colour ? "\x1b[0m" : "", after);
}

std::string ProgressMeter::json() const {
  const Progress last = samples_.empty() ? Progress{} : samples_.back().progress;
  const double seconds = left();
  nlohmann::ordered_json object{{"progress", fraction()},
                                {"phase", last.phase},
                                {"total_bytes", last.total_bytes},
                                {"done_bytes", last.done_bytes},
                                {"read_bytes", last.read_bytes},
                                {"stored_bytes", last.stored_bytes},
                                {"read_bytes_per_second", rate(&Progress::read_bytes)},
                                {"stored_bytes_per_second", rate(&Progress::stored_bytes)},
                                {"seconds", samples_.empty() ? 0 : samples_.back().time},
                                {"seconds_left", nullptr}};
  if (seconds >= 0) object["seconds_left"] = seconds;
  return object.dump();
}

}  // namespace nasbackup::tools
