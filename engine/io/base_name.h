// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The last part of a path, by its text alone. Pure; safe from any thread.
#pragma once

#include <string_view>

namespace nasbackup {

/// A part of `path`: what is behind its last slash; slashes at its end do not count.
constexpr std::string_view base_name(std::string_view path) noexcept {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return path.substr(path.rfind('/') + 1);
}

}  // namespace nasbackup
