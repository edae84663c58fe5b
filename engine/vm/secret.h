// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The value of a libvirt secret: the passphrase of an encrypted volume. Blocks for as long as libvirtd takes. A function without
// state.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace nasbackup::vm {

/// Shows the value to `take`, then wipes it. Throws Fault: wrong_key when libvirt has no such secret or does not tell it, source
/// when it cannot be reached.
void with_secret_value(const std::string& uri, const std::string& uuid,
                       const std::function<void(std::span<const std::byte>)>& take);

}  // namespace nasbackup::vm
