// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What SIGHUP asks for: the limit of the configuration file, read again while the job runs. One object, one thread.
#pragma once

#include <memory>
#include <string>

#include "tools/request.h"

namespace nasbackup::tools {

class LimitReload {
 public:
  LimitReload(const Request& request, std::shared_ptr<RateControl> control)
      : request_(request), control_(std::move(control)), limited_(request.transfer().limit) {}

  /// Returns the line to say. A file that cannot be read or is wrong changes nothing.
  std::string run();

 private:
  std::string reload();

  const Request& request_;
  std::shared_ptr<RateControl> control_;
  bool limited_;  // whether the file has named a limit, so that naming none means something
};

}  // namespace nasbackup::tools
