// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// CPU time that the calling thread has used, for sums over threads. Safe everywhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>

namespace nasbackup {

inline std::int64_t thread_cpu_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

/// Adds what the thread uses while it lives.
class CpuMeter {
 public:
  explicit CpuMeter(std::atomic<std::int64_t>& sum) noexcept : sum_(sum), began_(thread_cpu_ns()) {}
  ~CpuMeter() { sum_ += thread_cpu_ns() - began_; }
  CpuMeter(const CpuMeter&) = delete;
  CpuMeter& operator=(const CpuMeter&) = delete;

 private:
  std::atomic<std::int64_t>& sum_;
  std::int64_t began_;
};

}  // namespace nasbackup
