// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// rbd_storage.h where librbd is not built in. No state.
#include "engine/io/fault.h"
#include "engine/io/location.h"
#include "engine/io/rbd_storage.h"

namespace nasbackup {

namespace {

[[noreturn]] void refuse(const std::string& location) {
  throw Fault(FaultKind::failed, location_for_people(location) + ": this nasbackup was built without RBD");
}

}  // namespace

asio::awaitable<std::unique_ptr<BlockSource>> open_rbd_source(RbdThreads, std::string location, RbdAccess, bool) {
  refuse(location);
  co_return nullptr;
}

asio::awaitable<std::unique_ptr<BlockTarget>> open_rbd_target(RbdThreads, std::string location, RbdAccess, std::uint64_t, bool) {
  refuse(location);
  co_return nullptr;
}

std::unique_ptr<RbdTargetImage> begin_rbd_target(const std::string& location, bool, RbdAccess) { refuse(location); }

}  // namespace nasbackup
