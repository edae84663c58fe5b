// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One token bucket for all jobs of this host that name the same group: a file in memory that each of them maps. The bucket has no
// lock (throttle/token_bucket.h), so a member may be stopped or killed at any instruction. Members are those that hold a shared
// flock on the file, which the kernel drops with them; who finds nobody there begins it anew. Thread-safety: one object, one
// thread; the bucket, any number of them and of processes.
#pragma once

#include <string>
#include <string_view>

#include "engine/io/file_descriptor.h"
#include "throttle/token_bucket.h"

namespace nasbackup {

/// Letters, digits, '.', '-' and '_', at most 64, the first a letter or a digit.
bool is_rate_group_name(std::string_view name) noexcept;

class RateGroup {
 public:
  /// Joins the group, or begins it. `run_directory` is there, and only its owner can write to it. Throws Fault.
  RateGroup(const std::string& run_directory, const std::string& name);
  /// Leaves it; the last one takes the file away.
  ~RateGroup();
  RateGroup(const RateGroup&) = delete;
  RateGroup& operator=(const RateGroup&) = delete;

  BucketState& bucket() const noexcept;

 private:
  struct Segment;
  bool join();

  std::string path_;
  FileDescriptor file_;
  Segment* segment_ = nullptr;
};

}  // namespace nasbackup
