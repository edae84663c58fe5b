// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rbd_pool.h.
#include "engine/io/rbd_pool.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "engine/io/location.h"

namespace nasbackup {

namespace {

/// Of a cluster that does not answer the library must tell before the supervisor, who can only kill, loses patience.
std::chrono::seconds patience_of_library(std::chrono::seconds io_timeout) noexcept {
  const std::chrono::seconds earlier = io_timeout - std::max(std::chrono::seconds(1), io_timeout / 10);
  return std::max(std::chrono::seconds(1), earlier);
}

constexpr std::array<std::string_view, 3> kTimeouts{"client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"};

/// CloudStack's locations have a time-out in them: what is shorter wins, or ours would not hold.
std::chrono::seconds shortest_timeout(const RbdLocation& location, std::string_view option, std::chrono::seconds ours) noexcept {
  for (const auto& [name, value] : location.options) {
    unsigned seconds = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
    if (name == option && error == std::errc() && seconds > 0) ours = std::min(ours, std::chrono::seconds(seconds));
  }
  return ours;
}

/// The library wants a C string; the copy is wiped.
crypto::Secret with_end(const crypto::Secret& secret) {
  crypto::Secret text(secret.size() + 1);
  if (secret.size() != 0) std::memcpy(text.bytes().data(), secret.bytes().data(), secret.size());
  return text;
}

const char* c_string(const crypto::Secret& text) noexcept { return reinterpret_cast<const char*>(text.bytes().data()); }

std::string hint_of(std::int64_t error) {
  return error == EACCES || error == EPERM ? ": the cluster does not accept this id and key" : "";
}

}  // namespace

RbdPool::RbdPool(const RbdLocation& location, const RbdAccess& access, FaultKind fault)
    : library_(rbd_library()), name_(location_for_people(to_string(location))), lifeline_(access.lifeline), fault_(fault) {
  check(library_.rados_create(&cluster_, location.user.empty() ? nullptr : location.user.c_str()), "client");
  try {
    configure(location, access);
    connect(location);
  } catch (...) {
    library_.rados_shutdown(cluster_);
    throw;
  }
}

RbdPool::~RbdPool() {
  const TargetCall mark(lifeline_);
  library_.rados_ioctx_destroy(context_);
  library_.rados_shutdown(cluster_);
}

// Later words win: Ceph's own file, then ours, then what the location says, but for the time-outs.
void RbdPool::configure(const RbdLocation& location, const RbdAccess& access) {
  const int read = library_.rados_conf_read_file(cluster_, location.conf.empty() ? nullptr : location.conf.c_str());
  if (read < 0 && !location.conf.empty()) fail(read, "conf " + location.conf);
  set("rbd_cache", "false");              // each byte is read or written once
  set("rbd_atime_update_interval", "0");  // who only reads leaves no trace
  set("log_to_stderr", "false");          // which is ours
  for (const auto& [option, value] : location.options) set(option, value.c_str());
  for (const std::string_view option : kTimeouts) {
    const auto seconds = shortest_timeout(location, option, patience_of_library(access.timeout));
    set(std::string(option), std::to_string(seconds.count()).c_str());
  }
  if (location.key.size() != 0) set("key", c_string(with_end(location.key)));
  if (location.stored_key.empty()) return;
  const auto kept = access.keys.find(location.stored_key);
  if (kept == access.keys.end())
    throw Fault(FaultKind::usage, name_ + ": stored_key " + location.stored_key + ": there is no such key");
  set("key", c_string(with_end(*kept->second)));
}

// The value may be a secret: no message has it.
void RbdPool::set(const std::string& option, const char* value) {
  const int result = library_.rados_conf_set(cluster_, option.c_str(), value);
  if (result < 0) throw Fault(FaultKind::usage, name_ + ": option " + option + ": " + std::strerror(-result));
}

void RbdPool::connect(const RbdLocation& location) {
  const TargetCall mark(lifeline_);
  check(library_.rados_connect(cluster_), "connect");
  check(library_.rados_ioctx_create(cluster_, location.pool.c_str(), &context_), "pool " + location.pool);
  if (!location.name_space.empty()) library_.rados_ioctx_set_namespace(context_, location.name_space.c_str());
  client_ = library_.rados_get_instance_id(cluster_);
}

bool RbdPool::has_image(const std::string& image) const {
  const TargetCall mark(lifeline_);
  rbd_image_t opened = nullptr;
  const int result = library_.rbd_open_read_only(context_, image.c_str(), &opened, nullptr);
  if (result == -ENOENT) return false;
  check(result, "open");
  library_.rbd_close(opened);
  return true;
}

void RbdPool::create_image(const std::string& image, std::uint64_t size) const {
  const TargetCall mark(lifeline_);
  rbd_image_options_t options = nullptr;  // none: what the cluster does by default
  library_.rbd_image_options_create(&options);
  const int result = library_.rbd_create4(context_, image.c_str(), size, options);
  library_.rbd_image_options_destroy(options);
  check(result, "create");
}

// For as long as there are objects: not marked, because each request has the cluster's time-out.
void RbdPool::remove_image(const std::string& image) const {
  const int result = library_.rbd_remove(context_, image.c_str());
  if (result != -ENOENT) check(result, "remove " + image);
}

void RbdPool::rename_image(const std::string& from, const std::string& to) const {
  const TargetCall mark(lifeline_);
  check(library_.rbd_rename(context_, from.c_str(), to.c_str()), "rename");
}

void RbdPool::fail(std::int64_t result, const std::string& what) const {
  const int error = static_cast<int>(-result);
  if (error == ETIMEDOUT) throw Fault(FaultKind::timed_out, name_ + ": " + what + ": the cluster does not answer (--io-timeout)");
  const std::string said = what + hint_of(error);
  if (fault_ == FaultKind::source) throw_source_errno(error, name_, said);
  throw_target_errno(error, name_, said);
}

}  // namespace nasbackup
