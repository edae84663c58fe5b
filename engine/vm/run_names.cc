// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The lock is an flock, so it is free as soon as the last process of the run has died, however it died.
#include "engine/vm/run_names.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace nasbackup::vm {
namespace {

constexpr std::string_view kPrefix = "nasbackup-";
constexpr std::string_view kSocketSuffix = ".sock";
constexpr std::string_view kScratchSuffix = ".scratch";
constexpr std::size_t kRunIdDigits = 16;

bool is_suffix_of_ours(std::string_view rest) {
  if (rest == kSocketSuffix) return true;
  return rest.size() > kScratchSuffix.size() + 1 && rest.front() == '-' && rest.ends_with(kScratchSuffix);
}

}  // namespace

std::string socket_name(std::string_view run_id) { return std::string(kPrefix).append(run_id).append(kSocketSuffix); }

std::string scratch_name(std::string_view run_id, std::string_view target) {
  return std::string(kPrefix).append(run_id).append("-").append(target).append(kScratchSuffix);
}

bool is_run_id(std::string_view text) noexcept {
  return text.size() == kRunIdDigits &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::optional<std::string> run_id_in(std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const std::string_view id = name.substr(0, kRunIdDigits);
  if (!is_run_id(id) || !is_suffix_of_ours(name.substr(kRunIdDigits))) return std::nullopt;
  return std::string(id);
}

bool run_is_alive(std::string_view run_id, const std::string& run_directory) {
  const std::string lock = run_directory + "/run-" + std::string(run_id) + ".lock";
  const int fd = open(lock.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno != ENOENT;
  // A shared lock, so that two runs that look at the same time do not take each other for the dead run's owner.
  const bool free_lock = flock(fd, LOCK_SH | LOCK_NB) == 0;
  close(fd);
  return !free_lock;
}

}  // namespace nasbackup::vm
