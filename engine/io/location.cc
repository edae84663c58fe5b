// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See location.h.
#include "engine/io/location.h"

#include "engine/io/fault.h"
#include "formats/format_error.h"

namespace nasbackup {

bool is_nbd_uri(const std::string& location) noexcept {
  return location.starts_with("nbd://") || location.starts_with("nbd+unix://") || location.starts_with("nbds://") ||
         location.starts_with("nbds+unix://");
}

bool is_null_target(const std::string& location) noexcept { return location == "null:"; }

bool is_remote(const std::string& location) noexcept { return is_nbd_uri(location) || is_rbd_location(location); }

std::string location_for_people(const std::string& location) {
  if (is_rbd_location(location)) return rbd_location_for_people(location);
  const auto scheme = location.find("://");
  const auto at = location.find('@');
  const auto path = scheme == std::string::npos ? std::string::npos : location.find('/', scheme + 3);
  if (scheme == std::string::npos || at == std::string::npos || (path != std::string::npos && at > path)) return location;
  return location.substr(0, scheme + 3) + location.substr(at + 1);
}

RbdLocation read_rbd_location(const std::string& location) {
  try {
    return parse_rbd_location(location);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::usage, error.what());
  }
}

}  // namespace nasbackup
