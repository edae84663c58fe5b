// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See limit_reload.h.
#include "tools/limit_reload.h"

#include "tools/configuration.h"
#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

std::string text_of(const RateLimit& limit) {
  if (!limit.schedule.empty()) return "the limit is now " + limit.schedule;
  if (limit.rate == 0) return "there is no limit now";
  return "the limit is now " + human_size(static_cast<double>(limit.rate)) + "/s";
}

}  // namespace

std::string LimitReload::run() {
  try {
    return "SIGHUP: " + reload();
  } catch (const std::exception& error) {
    return std::string("warning: SIGHUP: ") + error.what() + "; the limit stays what it was";
  }
}

std::string LimitReload::reload() {
  if (request_.limit_written) return "the limit was given on the command line and stays what it is";
  CommandLine line;
  line.verb = find_verb(request_.verb_name);
  add_configured(line, read_configuration(request_.config, true, *line.verb));
  if (!request_.burst_written.empty() && (line.has("rate") || line.has("rate-schedule"))) {
    line.values["burst"] = {request_.burst_written};
    line.places.erase("burst");
  }
  const RateLimit limit = make_limit(line);
  if (!limit && !limited_) return printable(request_.config) + " names no limit, as before";
  control_->set(limit);
  limited_ = static_cast<bool>(limit);
  if (!limit && !request_.transfer().rate_group.empty()) return "no limit of its own now: that of its rate group holds";
  return text_of(limit);
}

}  // namespace nasbackup::tools
