// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See checkpoint_ledger.h.
#include "engine/set/checkpoint_ledger.h"

#include <array>
#include <chrono>
#include <thread>

#include "crypto/random_source.h"
#include "engine/io/fault.h"
#include "engine/io/run_lock.h"
#include "engine/set/hex.h"
#include "engine/set/small_file.h"

namespace nasbackup::set {

namespace {

constexpr char kTargetDirectory[] = ".nasbackup";
constexpr char kIdFile[] = "id";
constexpr char kEntryPrefix[] = ".checkpoint-";
constexpr std::size_t kIdDigits = 16;
constexpr std::chrono::seconds kWriterPatience{5};  // for another run that is just writing it

std::string new_id() {
  std::array<std::byte, kIdDigits / 2> bytes;
  crypto::system_random().fill(bytes);
  return to_hex(bytes);
}

/// The id that is there, whoever wrote it; empty when there is none.
std::string read_id(const Directory& directory) {
  const auto give_up = std::chrono::steady_clock::now() + kWriterPatience;
  for (;;) {
    const auto file = read_small_file(directory, kIdFile, 2 * kIdDigits);
    if (!file) return {};
    const std::string id = file->content.substr(0, kIdDigits);
    if (is_run_id(id)) return id;
    if (std::chrono::steady_clock::now() > give_up)
      throw Fault(FaultKind::damaged, directory.path_of(kIdFile) + ": is not 16 hexadecimal digits");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

std::string id_of_target(const Directory& root) {
  root.make_child(kTargetDirectory);
  const Directory directory = root.open_child(kTargetDirectory);
  if (std::string id = read_id(directory); !id.empty()) return id;
  try {
    write_new_file(directory, kIdFile, new_id() + "\n");
    directory.sync();
    root.sync();
  } catch (const Fault&) {  // another run was first, or it cannot be written: then it cannot be read either
    if (!directory.stat(kIdFile)) throw;
  }
  return read_id(directory);
}

}  // namespace

CheckpointLedger::CheckpointLedger(const Directory& root, const Directory& vm)
    : vm_(vm), prefix_("nasbackup-" + id_of_target(root) + "-") {}

bool CheckpointLedger::exists(const Directory& root) { return root.find_child(kTargetDirectory).has_value(); }

std::optional<std::string> CheckpointLedger::run_of(const std::string& checkpoint) const {
  if (!checkpoint.starts_with(prefix_) || !is_run_id(checkpoint.substr(prefix_.size()))) return std::nullopt;
  return checkpoint.substr(prefix_.size());
}

void CheckpointLedger::add(const std::string& run) const {
  write_new_file(vm_, kEntryPrefix + run, checkpoint_of(run) + "\n");
  vm_.sync();
}

void CheckpointLedger::remove(const std::string& run) const noexcept { vm_.try_remove_file(kEntryPrefix + run); }

bool CheckpointLedger::has(const std::string& checkpoint) const {
  return is_ours(checkpoint) && vm_.stat(kEntryPrefix + checkpoint.substr(prefix_.size()));
}

std::vector<std::string> CheckpointLedger::runs() const {
  std::vector<std::string> runs;
  for (const std::string& name : vm_.names())
    if (name.starts_with(kEntryPrefix) && is_run_id(name.substr(sizeof kEntryPrefix - 1)))
      runs.push_back(name.substr(sizeof kEntryPrefix - 1));
  return runs;
}

}  // namespace nasbackup::set
