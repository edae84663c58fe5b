// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See stored_secret.h.
#include "engine/vm/stored_secret.h"

#include <sys/prctl.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/vm/connection.h"

namespace nasbackup::vm {

namespace {

struct FreeSecret {
  void operator()(virSecretPtr secret) const noexcept { virSecretFree(secret); }
};
using SecretHandle = std::unique_ptr<virSecret, FreeSecret>;

SecretHandle find(virConnectPtr connection, const SecretName& name) {
  if (!name.uuid.empty()) return SecretHandle(virSecretLookupByUUIDString(connection, name.uuid.c_str()));
  return SecretHandle(virSecretLookupByUsage(connection, VIR_SECRET_USAGE_TYPE_CEPH, name.usage.c_str()));
}

/// Takes over what libvirt has allocated.
crypto::Secret take(unsigned char* value, std::size_t size) {
  crypto::Secret taken(size);
  if (size != 0) std::memcpy(taken.bytes().data(), value, size);
  ::explicit_bzero(value, size);
  std::free(value);
  return taken;
}

}  // namespace

std::optional<crypto::Secret> secret_value(virConnectPtr connection, const SecretName& name, std::string& why_not) {
  ::prctl(PR_SET_DUMPABLE, 0);
  const SecretHandle secret = find(connection, name);
  std::size_t size = 0;
  unsigned char* value = secret ? virSecretGetValue(secret.get(), &size, 0) : nullptr;
  if (value == nullptr) {
    why_not = last_error().message;
    return std::nullopt;
  }
  return take(value, size);
}

}  // namespace nasbackup::vm
