// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The limit of a job, from the public header to its limiter, also while the job runs.
// Thread-safety: everything may be used from any thread.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/io/limiter.h"
#include "engine/nasbackup.h"

namespace nasbackup {

/// The limiter's form of it. Throws Fault(usage) for a schedule that cannot be read.
Limit limit_of(const RateLimit& limit);

/// Joins the group that the options name; null when they name none. Throws Fault.
std::unique_ptr<RateGroup> join_rate_group(const std::string& name);

struct RateControlState {
  std::mutex mutex;
  std::list<std::function<void(const Limit&)>> listeners;
  std::optional<Limit> latest;
};

/// Hears each limit that `control` is given, for as long as it lives; the last one at once. `control` may be null.
class RateListener {
 public:
  RateListener(std::shared_ptr<RateControl> control, std::function<void(const Limit&)> on_limit);
  ~RateListener();
  RateListener(const RateListener&) = delete;
  RateListener& operator=(const RateListener&) = delete;

 private:
  std::shared_ptr<RateControl> control_;
  std::list<std::function<void(const Limit&)>>::iterator place_;
};

}  // namespace nasbackup
