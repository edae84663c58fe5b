// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A connection to a Ceph cluster, and the pool in it that a location names (librados). Blocking calls; the object may be used by
// several threads at once.
#pragma once

#include <cstdint>
#include <string>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/rbd_library.h"
#include "engine/io/rbd_storage.h"
#include "formats/rbd_location.h"

namespace nasbackup {

class RbdPool {
 public:
  /// Connects. `fault`: whose fault it is when something fails, here and in what stands on it. Throws Fault.
  RbdPool(const RbdLocation& location, const RbdAccess& access, FaultKind fault);
  ~RbdPool();
  RbdPool(const RbdPool&) = delete;
  RbdPool& operator=(const RbdPool&) = delete;

  const RbdLibrary& library() const noexcept { return library_; }
  rados_ioctx_t context() const noexcept { return context_; }
  /// By which the cluster knows us among those who use an image.
  std::uint64_t client() const noexcept { return client_; }
  /// The location for messages.
  const std::string& name() const noexcept { return name_; }
  LifelineState* lifeline() const noexcept { return lifeline_; }

  bool has_image(const std::string& image) const;
  void create_image(const std::string& image, std::uint64_t size) const;
  /// One that nobody uses; it may not be there, or be there in part.
  void remove_image(const std::string& image) const;
  void rename_image(const std::string& from, const std::string& to) const;

  /// A negative `result` of the library: throws Fault.
  void check(std::int64_t result, const std::string& what) const {
    if (result < 0) fail(result, what);
  }
  [[noreturn]] void fail(std::int64_t result, const std::string& what) const;

 private:
  void configure(const RbdLocation& location, const RbdAccess& access);
  void set(const std::string& option, const char* value);
  void connect(const RbdLocation& location);

  const RbdLibrary& library_;
  std::string name_;
  LifelineState* lifeline_;
  FaultKind fault_;
  rados_t cluster_ = nullptr;
  rados_ioctx_t context_ = nullptr;
  std::uint64_t client_ = 0;
};

}  // namespace nasbackup
