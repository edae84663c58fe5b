// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Vm name; see vm_name.h.
#include "engine/set/vm_name.h"

#include "engine/io/fault.h"
#include "engine/set/text.h"

namespace nasbackup::set {

namespace {

const char* what_is_wrong(const std::string& vm) noexcept {
  if (vm.empty()) return "is empty";
  if (vm.size() > kMaxVmName) return "is longer than 240 bytes";
  if (vm.find('/') != std::string::npos) return "has a '/' in it";
  if (vm.front() == '.') return "begins with '.', which would hide its sets";
  if (vm == "lost+found") return "is the file system's own";
  if (!is_plain_text(vm)) return "has control characters or bytes in it that are not UTF-8";
  return nullptr;
}

}  // namespace

void check_vm_name(const std::string& vm) {
  const char* wrong = what_is_wrong(vm);
  if (wrong == nullptr) return;
  throw Fault(FaultKind::usage,
              "VM name: cannot be a directory on the target, it " + std::string(wrong) + ": '" + plain_text(vm, 60) + "'");
}

}  // namespace nasbackup::set
