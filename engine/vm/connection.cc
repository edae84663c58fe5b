// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// libvirt's URI: https://libvirt.org/uri.html, "driver[+transport]://[user@][host][:port]/[path][?parameters]".
#include "engine/vm/connection.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <mutex>

#include <libvirt/virterror.h>

#include "engine/io/fault.h"

namespace nasbackup::vm {
namespace {

void ignore_error(void*, virErrorPtr) {}

/// libvirt's client writes to its socket without MSG_NOSIGNAL: a libvirtd that restarts would kill the process (seen with
/// libvirt 9.0). A program that handles SIGPIPE itself keeps its handler.
void ignore_broken_pipes() {
  struct sigaction now {};
  if (sigaction(SIGPIPE, nullptr, &now) != 0 || (now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) return;
  now.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &now, nullptr);
}

void prepare_libvirt() {
  static std::once_flag once;
  std::call_once(once, [] {
    virSetErrorFunc(nullptr, ignore_error);
    ignore_broken_pipes();
  });
}

std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

void refuse_remote(const std::string& uri) {
  if (is_local_uri(uri)) return;
  throw Fault(FaultKind::source,
              "libvirt: a remote URI cannot be used, the backup socket is local to the host that runs "
              "the VM (run nasbackup there): " +
                  uri);
}

}  // namespace

LibvirtError last_error() {
  const virErrorPtr error = virGetLastError();
  if (error == nullptr || error->code == VIR_ERR_OK) return {};
  return {error->code, one_line(error->message != nullptr ? error->message : "")};
}

void throw_libvirt(const std::string& where, const std::string& what) {
  const std::string message = last_error().message;
  throw Fault(FaultKind::source, where + ": " + what + ": " + (message.empty() ? "libvirt gives no reason" : message));
}

bool is_local_uri(std::string_view uri) noexcept {
  const std::size_t scheme_end = uri.find("://");
  if (scheme_end == std::string_view::npos) return true;  // an alias or empty: judged again when libvirt has resolved it
  const std::string_view scheme = uri.substr(0, scheme_end);
  const std::size_t plus = scheme.find('+');
  const std::string_view transport = plus == std::string_view::npos ? "unix" : scheme.substr(plus + 1);
  const std::string_view rest = uri.substr(scheme_end + 3);
  return transport == "unix" && !rest.empty() && rest.front() == '/';
}

Connection::Connection(const std::string& uri) : uri_(uri) {
  prepare_libvirt();
  refuse_remote(uri);
  const virConnectPtr opened = virConnectOpen(uri.empty() ? nullptr : uri.c_str());
  if (opened == nullptr) throw_libvirt("libvirt", "cannot connect to " + (uri.empty() ? "the default URI" : uri));
  connection_ = std::shared_ptr<virConnect>(opened, [](virConnectPtr c) { virConnectClose(c); });
  if (char* resolved = virConnectGetURI(opened)) {
    const std::string canonical = resolved;
    free(resolved);
    refuse_remote(canonical);
  }
}

bool Connection::alive() const noexcept { return virConnectIsAlive(connection_.get()) == 1; }

}  // namespace nasbackup::vm
