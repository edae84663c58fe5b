// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Images of a Ceph cluster: the one door to all that needs librbd. Where it is built without, each function throws
// Fault(failed, "… built without RBD").
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "crypto/secret.h"
#include "engine/io/block_source.h"
#include "engine/io/block_target.h"
#include "engine/io/stop_signal.h"

namespace nasbackup {

struct LifelineState;

/// Keys that are kept apart from locations, by the name that a location gives as `stored_key`.
using RbdKeys = std::map<std::string, std::shared_ptr<const crypto::Secret>>;

struct RbdAccess {
  RbdKeys keys;
  std::chrono::seconds timeout{60};   ///< a cluster that does not answer for so long is given up
  LifelineState* lifeline = nullptr;  ///< may be null
};

/// Where librbd's blocking calls run, and its callbacks come back to.
struct RbdThreads {
  asio::any_io_executor loop;
  asio::any_io_executor pool;
  StopSignal& stop;
};

/// `shared`: do not look who else uses the image. Throws Fault(source) when somebody does.
asio::awaitable<std::unique_ptr<BlockSource>> open_rbd_source(RbdThreads threads, std::string location, RbdAccess access,
                                                              bool shared);

/// `create`: an image of `size` bytes is made, which must not be there; else one that holds so many. Throws Fault(locked) when
/// somebody uses it.
asio::awaitable<std::unique_ptr<BlockTarget>> open_rbd_target(RbdThreads threads, std::string location, RbdAccess access,
                                                              std::uint64_t size, bool create);

/// An image that is to be written: one that is there in place; a new one under another name, until it is whole. Blocking; used by
/// one thread.
class RbdTargetImage {
 public:
  /// What was not published is removed.
  virtual ~RbdTargetImage() = default;
  /// Where to write.
  virtual const std::string& location() const noexcept = 0;
  /// It is not there yet.
  virtual bool is_new() const noexcept = 0;
  /// Gives the finished image its name. Throws Fault.
  virtual void publish() = 0;
};

/// `replace`: an image that is there may be written over; a Fault is thrown otherwise, and always when somebody uses it.
std::unique_ptr<RbdTargetImage> begin_rbd_target(const std::string& location, bool replace, RbdAccess access);

}  // namespace nasbackup
