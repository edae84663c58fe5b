// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Run names; see run_names.h.
#include "engine/vm/run_names.h"

#include "engine/io/base_name.h"
#include "engine/io/run_lock.h"

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

std::optional<std::string> run_id_in(std::string_view path) {
  std::string_view name = base_name(path);
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const std::string_view id = name.substr(0, kRunIdDigits);
  if (!is_run_id(id) || !is_suffix_of_ours(name.substr(kRunIdDigits))) return std::nullopt;
  return std::string(id);
}

}  // namespace nasbackup::vm
