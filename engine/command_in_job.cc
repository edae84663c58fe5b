// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The command beside the job; see command_in_job.h.
#include "engine/command_in_job.h"

#include <unistd.h>

#include <vector>

namespace nasbackup {

namespace {

std::vector<std::string> environment_with(const std::map<std::string, std::string>& uris) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (std::string(*entry).rfind("NASBACKUP_URI", 0) != 0) environment.emplace_back(*entry);
  std::string all;
  for (const auto& [disk, uri] : uris) {
    environment.push_back("NASBACKUP_URI_" + disk + "=" + uri);
    all += (all.empty() ? "" : " ") + uri;
  }
  environment.push_back("NASBACKUP_URIS=" + all);
  return environment;
}

}  // namespace

std::unique_ptr<ChildProcess> start_command_in_job(const std::string& command, const std::map<std::string, std::string>& uris) {
  const ChildOptions options{{"/bin/sh", "-c", command}, environment_with(uris)};
  return std::make_unique<ChildProcess>(options, "--exec-in-job");
}

}  // namespace nasbackup
