// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What libvirt keeps secret on a disk's behalf (https://libvirt.org/formatsecret.html): the key of a Ceph client, the passphrase
// of an encrypted volume. Functions without state; they block for as long as libvirtd takes.
#pragma once

#include <optional>
#include <string>

#include <libvirt/libvirt.h>

#include "crypto/secret.h"

namespace nasbackup::vm {

/// By either of them a domain's XML may name a secret.
struct SecretName {
  std::string uuid;
  std::string usage = {};  ///< of the type "ceph"
};

/// Its value; nothing, and the reason in `why_not`, when libvirt does not tell it (it is private,
/// say). From then on the process writes no core file: the value has passed through libvirt's buffers, which nobody wipes.
std::optional<crypto::Secret> secret_value(virConnectPtr connection, const SecretName& name, std::string& why_not);

}  // namespace nasbackup::vm
