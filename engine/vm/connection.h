// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The way to libvirt: a connection that closes itself, and libvirt's errors as ours.
//
// Thread-safety: libvirt's own, a connection may be used by several threads; the errors belong to the calling thread.
// Nothing here needs libvirt's event loop. For the whole process the first connection silences libvirt's habit of printing
// errors to stderr, and ignores SIGPIPE if that still had its default action.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <libvirt/libvirt.h>

namespace nasbackup::vm {

/// What libvirt said last on this thread.
struct LibvirtError {
  int code = 0;         ///< VIR_ERR_…
  std::string message;  ///< one line
};

LibvirtError last_error();

/// Fault(source, "where: what: libvirt's text") from the last error of this thread.
[[noreturn]] void throw_libvirt(const std::string& where, const std::string& what);

/// False for a URI that leads to another host: the job's socket is bound by QEMU there, and we could not open it here.
bool is_local_uri(std::string_view uri) noexcept;

class Connection {
 public:
  /// Opens it. A remote URI and a libvirt that cannot be reached are Fault(source).
  explicit Connection(const std::string& uri);

  virConnectPtr get() const noexcept { return connection_.get(); }
  const std::string& uri() const noexcept { return uri_; }
  /// False once the daemon has closed it.
  bool alive() const noexcept;

 private:
  std::string uri_;
  std::shared_ptr<virConnect> connection_;
};

}  // namespace nasbackup::vm
