// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// DRBD's devices, which CloudStack's LINSTOR pools are made of: /dev/drbdN has a number that means nothing elsewhere, and udev's
// link /dev/drbd/by-res/cs-UUID/0 leads to it, which names the volume (cloudstack-contract.md, 5). Functions without state.
#pragma once

#include <string>

namespace nasbackup {

inline constexpr char kDrbdByResource[] = "/dev/drbd/by-res";

/// Whether the path is that of a numbered device.
bool is_drbd_device(const std::string& path) noexcept;

/// The link below `by_resource` that leads to the device. Throws Fault(source): none does.
std::string drbd_resource_path(const std::string& device, const std::string& by_resource = kDrbdByResource);

}  // namespace nasbackup
