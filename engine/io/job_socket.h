// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where a backup job's server, which is QEMU, has an export. Plain data.
#pragma once

#include <string>

namespace nasbackup {

struct JobSocket {
  std::string path;
  std::string export_name;
};

}  // namespace nasbackup
