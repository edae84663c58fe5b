// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rbd_library.h.
#include "engine/io/rbd_library.h"

#include <dlfcn.h>

#include <string>

#include "engine/io/fault.h"

namespace nasbackup {

namespace {

constexpr char kFile[] = "librbd.so.1";  // brings librados.so.2

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  if (function == nullptr) throw Fault(FaultKind::failed, std::string("rbd: ") + kFile + ": has no " + name + ": is too old");
}

RbdLibrary load() {
  // Never unloaded: threads of its own may outlive the last image.
  void* library = ::dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Fault(FaultKind::failed, std::string("rbd: install librbd1: ") + ::dlerror());
  RbdLibrary functions;
#define NASBACKUP_RBD_FIND(name) find(library, #name, functions.name);
  NASBACKUP_RBD_FUNCTIONS(NASBACKUP_RBD_FIND)
#undef NASBACKUP_RBD_FIND
  return functions;
}

}  // namespace

const RbdLibrary& rbd_library() {
  static const RbdLibrary functions = load();
  return functions;
}

}  // namespace nasbackup
