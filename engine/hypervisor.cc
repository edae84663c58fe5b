// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::hypervisor_versions.
#include "engine/nasbackup.h"
#include "engine/translate_faults.h"
#include "engine/vm/connection.h"

namespace nasbackup {

HypervisorVersions hypervisor_versions(const std::string& connect) {
  return translate_faults([&] {
    const vm::Connection connection(connect);
    HypervisorVersions versions;
    if (virConnectGetLibVersion(connection.get(), &versions.libvirt) < 0 ||
        virConnectGetVersion(connection.get(), &versions.hypervisor) < 0)
      vm::throw_libvirt(connect, "cannot ask for its version");
    return versions;
  });
}

}  // namespace nasbackup
