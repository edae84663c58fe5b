// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See secret.h.
#include "engine/vm/secret.h"

#include <libvirt/libvirt.h>
#include <string.h>

#include <cstdlib>
#include <memory>

#include "engine/io/fault.h"
#include "engine/vm/connection.h"

namespace nasbackup::vm {

namespace {

/// Never the value itself: only what libvirt says of it.
[[noreturn]] void refuse(const std::string& uuid) {
  throw Fault(FaultKind::wrong_key, "libvirt secret " + uuid + ": " + last_error().message);
}

struct Wiped {
  std::size_t size = 0;
  void operator()(unsigned char* value) const noexcept {
    ::explicit_bzero(value, size);
    std::free(value);
  }
};

}  // namespace

void with_secret_value(const std::string& uri, const std::string& uuid,
                       const std::function<void(std::span<const std::byte>)>& take) {
  const Connection connection(uri);
  const std::unique_ptr<virSecret, decltype(&virSecretFree)> secret(virSecretLookupByUUIDString(connection.get(), uuid.c_str()),
                                                                    virSecretFree);
  if (!secret) refuse(uuid);
  std::size_t size = 0;
  unsigned char* raw = virSecretGetValue(secret.get(), &size, 0);
  if (raw == nullptr) refuse(uuid);
  const std::unique_ptr<unsigned char, Wiped> value(raw, Wiped{size});
  take(std::as_bytes(std::span(raw, size)));
}

}  // namespace nasbackup::vm
