// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the text that names a source or a target is: a path, an NBD URI, a Ceph image, or nothing at all. Pure functions.
#pragma once

#include <string>

#include "formats/rbd_location.h"

namespace nasbackup {

bool is_nbd_uri(const std::string& location) noexcept;
/// Null: for a location that nothing is kept of.
bool is_null_target(const std::string& location) noexcept;
/// Behind a network protocol of our own, so that no file is there to be looked at. What lies there is raw.
bool is_remote(const std::string& location) noexcept;

/// The location as it may be shown: without a user and a secret that stand in it.
std::string location_for_people(const std::string& location);

/// parse_rbd_location(), for a user's word: throws Fault(usage).
RbdLocation read_rbd_location(const std::string& location);

}  // namespace nasbackup
