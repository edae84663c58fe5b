// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Publication; see publication.h.
#include "engine/set/publication.h"

#include <thread>

#include "engine/io/fault.h"
#include "engine/set/manifest.h"
#include "engine/set/small_file.h"
#include "engine/set/target_lock.h"

namespace nasbackup::set {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kMaxTakenSeconds = 60;

std::chrono::milliseconds until_next_second() {
  const auto now = std::chrono::system_clock::now();
  const auto next = std::chrono::floor<std::chrono::seconds>(now) + 1s;
  return std::chrono::ceil<std::chrono::milliseconds>(next - now);
}

}  // namespace

SetName wait_for_free_name(const Directory& vm, const std::stop_token& stop) {
  for (int waited = 0; waited < kMaxTakenSeconds; ++waited) {
    const SetName name = SetName::now();
    if (!vm.stat(name.text())) return name;
    sleep_unless_stopped(until_next_second(), stop);
  }
  throw Fault(FaultKind::failed, vm.path() + ": the sets of this and the next 60 seconds are there already");
}

SetName first_free_name(const Directory& vm, SetName name) {
  while (vm.stat(name.text())) name = name.next_second();
  return name;
}

bool is_published(const Directory& vm, const std::string& set_name, const std::string& manifest_text) noexcept {
  try {
    const auto set = vm.find_child(set_name);
    const auto manifest = set ? read_small_file(*set, kManifestName, kMaxManifestSize) : std::nullopt;
    return manifest && manifest->content == manifest_text;
  } catch (const std::exception&) {
    return false;
  }
}

Moved move_into_place(const Directory& vm, const std::string& partial_name, const std::string& set_name,
                      const std::string& manifest_text, std::chrono::milliseconds patience) {
  const auto give_up = Clock::now() + patience;
  for (;;) {
    if (vm.stat(set_name)) return is_published(vm, set_name, manifest_text) ? Moved::done : Moved::name_taken;
    const int error = vm.try_rename(partial_name, set_name);
    if (error == 0 || is_published(vm, set_name, manifest_text)) return Moved::done;
    if (error == EEXIST || error == ENOTEMPTY || error == ENOTDIR) return Moved::name_taken;
    if (Clock::now() >= give_up) throw_target_errno(error, vm.path_of(set_name), "cannot publish the set");
    std::this_thread::sleep_for(std::min<std::chrono::milliseconds>(patience, 250ms));
  }
}

}  // namespace nasbackup::set
